//! What has changed and is not on the disk yet.
//!
//! It is no queue but the newest state of each topic and client, so it never holds more than there is to keep, and a topic
//! that changes a thousand times while the disk is slow is written once. What is taken from it is written as one
//! transaction: on the disk a change is never there without those before it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::limits::STORE_LINGER;
use crate::message::{Message, Qos};
use crate::retained::ByTopic;

/// Between those who change something, under the hub's lock, and the one who writes it. Its own lock is the innermost of
/// all, and is held for one map operation.
#[derive(Debug)]
pub(crate) struct Journal {
    /// False when nothing is kept on disk: then everything is as durable as it will ever be.
    keeps: bool,
    most: usize,
    pending: Mutex<Pending>,
    /// Rings when there is something to write, and when it has become urgent.
    bell: Notify,
    durable: watch::Sender<Mark>,
}

/// A point in the order of all changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Changes that are to be written as one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The newest message of each topic; an empty one deletes.
    pub(crate) retained: BTreeSet<ByTopic>,
    /// The newest will of each client, if it has one.
    pub(crate) wills: HashMap<Arc<str>, Option<Arc<Message>>>,
    /// Whether that is all there is to keep: what else is on the disk goes.
    pub(crate) is_everything: bool,
    /// Nothing before this is missing once it is written.
    upto: Mark,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Batch,
    urgency: Option<Urgency>,
}

/// How soon changes are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Soon: nobody waits for it.
    Soon,
    /// At once: somebody waits for an acknowledgement.
    Now,
}

impl Journal {
    /// A journal of at most `most` changes; without `keeps` they are forgotten.
    pub(crate) fn new(keeps: bool, most: usize) -> Self {
        Self {
            keeps,
            most,
            pending: Mutex::default(),
            bell: Notify::new(),
            durable: watch::Sender::new(Mark::default()),
        }
    }

    /// Whether one more may be noted. There is always room unless the disk has failed for long.
    pub(crate) fn has_room(&self) -> bool {
        let pending = self.lock();
        pending.changes.len() < self.most
    }

    /// Notes a message that replaces or deletes its topic's, and returns when it is durable.
    pub(crate) fn retain(&self, message: &Arc<Message>) -> Mark {
        let urgency = match message.qos {
            Qos::AtMostOnce => Urgency::Soon,
            Qos::AtLeastOnce => Urgency::Now,
        };
        self.note(urgency, |changes| {
            changes.retained.replace(ByTopic(Arc::clone(message)));
        })
    }

    /// Notes the will of a client, or that it has none any more. Nobody waits for it: what its client publishes later
    /// is never on the disk without it.
    pub(crate) fn will(&self, client_id: &Arc<str>, will: Option<Arc<Message>>) {
        self.note(Urgency::Soon, |changes| {
            changes.wills.insert(Arc::clone(client_id), will);
        });
    }

    /// Up to where everything is durable.
    pub(crate) fn durable(&self) -> Mark {
        *self.durable.borrow()
    }

    /// Completes when everything up to the mark is durable. Cancel-safe.
    pub(crate) async fn until_durable(&self, mark: Mark) {
        let mut durable = self.durable.subscribe();
        // The sender is here, so it cannot fail.
        let _ = durable.wait_for(|durable| *durable >= mark).await;
    }

    /// Completes when something should be written. Cancel-safe.
    pub(crate) async fn until_due(&self) {
        loop {
            let urgency = self.lock().urgency;
            match urgency {
                None => self.bell.notified().await,
                Some(Urgency::Soon) => {
                    if timeout(STORE_LINGER, self.bell.notified()).await.is_err() {
                        return;
                    }
                }
                Some(Urgency::Now) => return,
            }
        }
    }

    /// Takes everything that is to be written.
    pub(crate) fn take(&self) -> Batch {
        let mut pending = self.lock();
        pending.urgency = None;
        let upto = pending.changes.upto;
        std::mem::replace(
            &mut pending.changes,
            Batch {
                upto,
                ..Batch::default()
            },
        )
    }

    /// Up to where everything has been noted: a change that is none is as durable as the ones before it.
    pub(crate) fn noted(&self) -> Mark {
        self.lock().changes.upto
    }

    /// Whether there is something to write.
    pub(crate) fn has_some(&self) -> bool {
        self.lock().changes.len() > 0
    }

    /// What was taken is on the disk.
    pub(crate) fn written(&self, batch: &Batch) {
        self.durable
            .send_if_modified(|durable| std::mem::replace(durable, batch.upto) != batch.upto);
    }

    /// What was taken could not be written; what is newer stays.
    pub(crate) fn put_back(&self, batch: Batch) {
        let mut pending = self.lock();
        pending.urgency = Some(Urgency::Now);
        for message in batch.retained {
            if !pending.changes.retained.contains(&message) {
                pending.changes.retained.insert(message);
            }
        }
        for (client_id, will) in batch.wills {
            pending.changes.wills.entry(client_id).or_insert(will);
        }
    }

    fn note(&self, urgency: Urgency, change: impl FnOnce(&mut Batch)) -> Mark {
        if !self.keeps {
            return Mark::default();
        }
        let mut pending = self.lock();
        change(&mut pending.changes);
        pending.changes.upto.0 += 1;
        if pending.urgency < Some(urgency) {
            pending.urgency = Some(urgency);
            self.bell.notify_one();
        }
        pending.changes.upto
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// How many topics and clients it is about.
    pub(crate) fn len(&self) -> usize {
        self.retained.len() + self.wills.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::topic::tests::name;

    fn message(topic: &str, payload: &str, qos: Qos) -> Arc<Message> {
        Arc::new(Message::new(name(topic), payload.as_bytes(), qos, true))
    }

    fn payloads(batch: &Batch) -> Vec<&[u8]> {
        batch
            .retained
            .iter()
            .map(|entry| &entry.0.payload[..])
            .collect()
    }

    #[test]
    fn only_the_newest_of_a_topic_is_written_also_after_a_failure() {
        let journal = Journal::new(true, 10);
        let first = journal.retain(&message("a", "1", Qos::AtLeastOnce));
        let client: Arc<str> = "333".into();
        journal.will(&client, Some(message("w", "1", Qos::AtLeastOnce)));
        journal.retain(&message("b", "1", Qos::AtLeastOnce));
        let batch = journal.take();
        assert_eq!((batch.len(), journal.take().len()), (3, 0));
        journal.retain(&message("a", "2", Qos::AtLeastOnce));
        journal.will(&client, None);
        journal.put_back(batch);
        assert_eq!(journal.durable(), Mark::default());
        let again = journal.take();
        assert_eq!(payloads(&again), [b"2", b"1"]);
        assert_eq!(again.wills.get("333"), Some(&None));
        journal.written(&again);
        assert!(journal.durable() > first);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_when_it_is_written_and_not_before() {
        let journal = Journal::new(true, 10);
        let early = journal.retain(&message("a", "1", Qos::AtLeastOnce));
        let batch = journal.take();
        let late = journal.retain(&message("b", "1", Qos::AtLeastOnce));
        assert!(
            timeout(STORE_LINGER, journal.until_durable(early))
                .await
                .is_err()
        );
        journal.written(&batch);
        journal.until_durable(early).await;
        assert!(
            timeout(STORE_LINGER, journal.until_durable(late))
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_written_soon_and_with_what_is_urgent() {
        let journal = Journal::new(true, 10);
        assert!(
            timeout(STORE_LINGER * 9, journal.until_due())
                .await
                .is_err()
        );
        let start = Instant::now();
        journal.retain(&message("a", "1", Qos::AtMostOnce));
        journal.until_due().await;
        assert_eq!(start.elapsed(), STORE_LINGER);
        journal.take();

        let start = Instant::now();
        journal.will(&"333".into(), None);
        journal.retain(&message("a", "1", Qos::AtLeastOnce));
        journal.until_due().await;
        assert!(start.elapsed() < STORE_LINGER);
        assert_eq!(journal.take().len(), 2);
    }

    #[test]
    fn it_is_bounded_and_without_a_store_empty() {
        let journal = Journal::new(true, 2);
        for topic in ["a", "b"] {
            assert!(journal.has_room());
            journal.retain(&message(topic, "", Qos::AtLeastOnce));
        }
        assert!(!journal.has_room());
        let none = Journal::new(false, 2);
        let mark = none.retain(&message("a", "1", Qos::AtLeastOnce));
        assert!(none.durable() >= mark && none.take().len() == 0);
    }
}
