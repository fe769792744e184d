//! Whether an idle core should look for news for a moment before it sleeps. Pure.
//!
//! To sleep and to be woken costs tens of microseconds, most of it before the CPU runs again; a disk takes about as long to answer, and a
//! client who was answered often asks again as soon. So a core that waits for one of them looks first, as Seastar's reactors do
//! (`--idle-poll-time-us`). Where looking finds nothing, it is left out the next times, twice as many each time: an idle core does not look.

use std::time::Duration;

/// At most so many times (powers of two) in a row a core does not look after looks that found nothing: for a disk, which will answer in any
/// case, and for anything else.
const SKIP_MAX: [u32; 2] = [4, 64];

/// What an idle core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A disk that is at work.
    Disk,
    /// Whatever comes.
    Anything,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    look_ns: u64,
    habits: [Habit; 2],
}

#[derive(Debug, Default)]
struct Habit {
    skip: u32,
    skip_next: u32,
}

impl Patience {
    /// Looks last `look` at most; none at all if that is zero.
    pub(super) fn new(look: Duration) -> Self {
        Self { look_ns: look.as_nanos() as u64, habits: Default::default() }
    }

    /// For how long to look now, in ns, if at all. A disk is worth twice the time: how long it will take is known roughly, and often not much less.
    pub(super) fn look(&mut self, what: For) -> Option<u64> {
        let habit = &mut self.habits[what as usize];
        if self.look_ns == 0 {
            return None;
        }
        if habit.skip > 0 {
            habit.skip -= 1;
            return None;
        }
        Some(if what == For::Disk { 2 * self.look_ns } else { self.look_ns })
    }

    /// A look has found something, or has not.
    pub(super) fn looked(&mut self, what: For, found: bool) {
        let habit = &mut self.habits[what as usize];
        habit.skip_next = if found { 0 } else { (2 * habit.skip_next).clamp(1, SKIP_MAX[what as usize]) };
        habit.skip = habit.skip_next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_goes_on_looking_and_who_does_not_stops() {
        let mut patience = Patience::new(Duration::from_micros(200));
        let looks = |patience: &mut Patience, what, found: bool| {
            let times = (0..1_000).filter(|_| {
                let looks = patience.look(what).is_some();
                if looks {
                    patience.looked(what, found);
                }
                looks
            });
            times.count()
        };
        assert_eq!(looks(&mut patience, For::Disk, true), 1_000);
        assert!(looks(&mut patience, For::Anything, false) < 25);
        assert_eq!(looks(&mut patience, For::Disk, true), 1_000, "one does not unlearn the other");
        assert!(looks(&mut patience, For::Anything, true) > 900, "and learns again");
        assert!(Patience::new(Duration::ZERO).look(For::Disk).is_none());
    }
}
