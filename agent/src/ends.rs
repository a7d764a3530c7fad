//! Which streams are whose, so that a controller's are ended whichever connection carries them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::Label;
use tokio_util::sync::CancellationToken;

/// The streams of a device that are open; clones share them. No request to end them waits in a queue that could be full.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    streams: BTreeMap<Key, CancellationToken>,
    next: u64,
}

/// A controller, and a number for each of its streams.
type Key = (Label, u64);

/// What a stream holds while it is open: with it the stream leaves the list.
#[derive(Debug)]
pub(crate) struct End {
    requested: CancellationToken,
    /// `None` for a stream of nobody, which nobody can have ended.
    entry: Option<(Ends, Key)>,
}

impl Ends {
    /// Enters a stream of this controller.
    pub(crate) fn enter(&self, controller: Option<Label>) -> End {
        let requested = CancellationToken::new();
        let entry = controller.map(|controller| {
            let mut open = self.open();
            let key = (controller, open.next);
            open.next += 1;
            open.streams.insert(key.clone(), requested.clone());
            (self.clone(), key)
        });
        End { requested, entry }
    }

    /// Asks all streams of this controller to end.
    pub(crate) fn request(&self, controller: &Label) {
        let all = (controller.clone(), 0)..=(controller.clone(), u64::MAX);
        for requested in self.open().streams.range(all).map(|(_, stream)| stream) {
            requested.cancel();
        }
    }

    /// The controllers that have a stream open.
    pub(crate) fn controllers(&self) -> BTreeSet<Label> {
        let open = self.open();
        open.streams.keys().map(|(name, _)| name.clone()).collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// Ends when the stream is asked to end.
    pub(crate) async fn requested(&self) {
        self.requested.cancelled().await;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some((ends, key)) = &self.entry {
            ends.open().streams.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_one_controller_end_and_no_others() {
        let ends = Ends::default();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let enter = |name| ends.enter(Some(label(name)));
        let (first, second) = (enter("controller-a"), enter("controller-a"));
        let others = [enter("controller"), enter("controller-b"), ends.enter(None)];
        ends.clone().request(&label("controller-a"));
        assert!(first.requested.is_cancelled() && second.requested.is_cancelled());
        assert!(others.iter().all(|end| !end.requested.is_cancelled()));
        let names = ends.controllers();
        let names: Vec<_> = names.iter().map(Label::as_str).collect();
        assert_eq!(names, ["controller", "controller-a", "controller-b"]);
        let later = enter("controller-a");
        assert!(!later.requested.is_cancelled(), "it came after the request");
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let ends = Ends::default();
        let label: Label = "controller-a".parse().unwrap();
        let (first, second) = (ends.enter(Some(label.clone())), ends.enter(Some(label)));
        drop(first);
        assert_eq!(ends.open().streams.len(), 1);
        drop(second);
        assert!(ends.open().streams.is_empty());
    }
}
