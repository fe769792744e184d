//! Numbers that look like chance, from a seed: for the simulator, and for schedules that are known before anything runs.

/// splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators"). Written out, nine lines, and not taken from a crate: a seed that failed must
/// fail the same way after every update of dependencies.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Begins the stream of a seed. Streams of the same seed for different ends take it with a constant of their own (`seed ^ CONSTANT`).
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 fresh bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    ///
    /// # Panics
    /// If `n` is 0: there is none.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below 0");
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n` times.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several, all alike.
    ///
    /// # Panics
    /// If there is none.
    pub fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
