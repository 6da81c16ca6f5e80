//! Who watches an object for changes without waiting at it: the selects that have it among others.

use std::sync::Arc;

/// Wakes a select.
#[derive(Clone)]
pub(crate) struct Poke(Arc<crossbeam_channel::Sender<()>>);

impl Poke {
    #[cfg(not(loom))]
    /// A poke, and where it arrives: one at most waits there.
    pub(crate) fn new() -> (Self, crossbeam_channel::Receiver<()>) {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        (Poke(Arc::new(sender)), receiver)
    }

    fn poke(&self) {
        // One is as good as two.
        let _ = self.0.try_send(());
    }
}

/// Those who watch an object, under its lock.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Poke>);

impl Watchers {
    pub(crate) const fn new() -> Self {
        Watchers(Vec::new())
    }

    #[cfg(not(loom))]
    pub(crate) fn add(&mut self, poke: &Poke) {
        self.0.push(poke.clone());
    }

    #[cfg(not(loom))]
    pub(crate) fn remove(&mut self, poke: &Poke) {
        self.0.retain(|other| !Arc::ptr_eq(&other.0, &poke.0));
    }

    /// All, to be poked once the lock is given back.
    #[inline]
    pub(crate) fn all(&self) -> Pokes {
        Pokes((!self.0.is_empty()).then(|| self.0.clone()))
    }
}

/// Watchers to poke.
#[must_use]
pub(crate) struct Pokes(Option<Vec<Poke>>);

impl Pokes {
    #[inline]
    pub(crate) fn poke(self) {
        for poke in self.0.iter().flatten() {
            poke.poke();
        }
    }
}
