//! A value that tasks of several cores wait for.
//!
//! As tokio's `watch`, but whoever waits is woken in the order of their waiting: `watch` spreads them by chance, and two runs of one seed in the simulator would
//! differ.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Told<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the value.
    pub(super) fn look<U>(&self, look: impl FnOnce(&T) -> U) -> U {
        look(&self.lock())
    }

    /// Changes the value; whoever waits is told if `change` says that it did.
    pub(super) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let changed = change(&mut self.lock());
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// Waits until `find` finds in the value what it looks for.
    pub(super) async fn wait_for<U>(&self, mut find: impl FnMut(&T) -> Option<U>) -> U {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let found = self.look(&mut find);
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}
