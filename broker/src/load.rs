//! What waits for all clients together, in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum over all sessions. Clones are the same sum.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

/// One session's part of it, which goes with the session.
#[derive(Debug)]
pub(crate) struct LoadShare {
    all: Load,
    own: usize,
}

impl Load {
    pub(crate) fn share(&self) -> LoadShare {
        LoadShare {
            all: self.clone(),
            own: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl LoadShare {
    /// Adds to it. False when there is too much in all, unless this session has less than anybody may have.
    pub(crate) fn add(&mut self, bytes: usize, most_in_all: usize, always: usize) -> bool {
        let own = self.own + bytes;
        // Adding under different locks, sessions may be beyond it by a message each.
        if own > always && self.all.0.load(Ordering::Relaxed) + bytes > most_in_all {
            return false;
        }
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.own = own;
        true
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        let bytes = bytes.min(self.own);
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
        self.own -= bytes;
    }
}

impl Drop for LoadShare {
    fn drop(&mut self) {
        self.remove(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_little_is_not_touched_by_those_who_have_much() {
        let load = Load::default();
        let (mut greedy, mut modest) = (load.share(), load.share());
        assert!(greedy.add(100, 100, 10));
        assert!(!greedy.add(1, 100, 10));
        assert!(modest.add(10, 100, 10));
        assert!(!modest.add(1, 100, 10));
        assert_eq!(load.get(), 110);
        greedy.remove(50);
        assert!(modest.add(1, 100, 10));
        drop(greedy);
        assert_eq!(load.get(), 11);
    }
}
