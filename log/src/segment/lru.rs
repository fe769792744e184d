//! A map that knows which of its entries was used least recently.

use millpond_runtime::FxHashMap;
use std::{collections::BTreeMap, hash::Hash};

/// See the module. It has no bound of its own: its owner counts, and asks for [`Lru::pop_oldest`].
pub(super) struct Lru<K, V> {
    entries: FxHashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
    clock: u64,
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), by_age: BTreeMap::new(), clock: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// An entry, which becomes the youngest.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let (age, value) = self.entries.get_mut(key)?;
        self.by_age.remove(age);
        self.clock += 1;
        *age = self.clock;
        self.by_age.insert(self.clock, *key);
        Some(value)
    }

    /// An entry, which stays as old as it is.
    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Puts an entry as the youngest, and gives back what it replaces.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.remove(&key);
        self.clock += 1;
        self.by_age.insert(self.clock, key);
        self.entries.insert(key, (self.clock, value));
        before
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (age, value) = self.entries.remove(key)?;
        self.by_age.remove(&age);
        Some(value)
    }

    /// The least recently used entry.
    pub(super) fn oldest(&self) -> Option<(K, &V)> {
        let key = self.by_age.values().next()?;
        self.peek(key).map(|value| (*key, value))
    }

    /// Takes out the least recently used entry.
    pub(super) fn pop_oldest(&mut self) -> Option<V> {
        let key = *self.by_age.values().next()?;
        self.remove(&key)
    }

    /// Takes out all entries whose key `goes`.
    pub(super) fn remove_where(&mut self, goes: impl Fn(&K) -> bool) -> Vec<V> {
        let keys: Vec<K> = self.by_age.values().filter(|key| goes(key)).copied().collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }
}
