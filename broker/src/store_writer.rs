//! The one task that writes the store: all that has changed, in one transaction, again and again.
//!
//! While one transaction is on its way to the disk the next one gathers, so that a fleet that comes back at once costs a
//! few of them and not one a device.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::report::one_line;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::hub::Hub;
use crate::journal::Batch;
use crate::limits::{STORE_FINISH, STORE_GATHER, STORE_RETRY};
use crate::store::{CommitError, Store};

/// Brings the hub's journal to the disk.
pub(crate) struct StoreWriter {
    hub: Arc<Hub>,
    store: Arc<Mutex<Store>>,
    failing: bool,
    /// The pause after the next failure.
    retry: Duration,
}

impl StoreWriter {
    pub(crate) fn new(hub: Arc<Hub>, store: Store) -> Self {
        Self {
            hub,
            store: Arc::new(Mutex::new(store)),
            failing: false,
            retry: STORE_RETRY.0,
        }
    }

    /// Writes, for as long as it is polled. A transaction that has begun ends all the same.
    pub(crate) async fn run(&mut self) {
        loop {
            self.hub.journal.until_due().await;
            let pause = if self.write().await {
                STORE_GATHER
            } else {
                let longer = (self.retry * 2).min(STORE_RETRY.1);
                std::mem::replace(&mut self.retry, longer)
            };
            sleep(pause).await;
        }
    }

    /// Writes what is left, after everybody has gone.
    pub(crate) async fn finish(mut self) {
        let last = async {
            // The first waits for a transaction that is still on its way and may put back what that could not write.
            while self.write().await && self.hub.journal.has_some() {}
            // Not by dropping it here: a transaction that nobody waited for may hold on to it for a moment longer.
            let store = Arc::clone(&self.store);
            let closing = spawn_blocking(move || {
                store.lock().unwrap_or_else(PoisonError::into_inner).close();
            });
            if let Err(panicked) = closing.await {
                tracing::error!(error = %one_line(&panicked), "the broker's store could not be closed");
            }
        };
        if timeout(STORE_FINISH, last).await.is_err() || self.hub.journal.has_some() {
            tracing::error!("the last changes are not in the store");
        }
    }

    /// Writes everything that is to be written; whether it could.
    async fn write(&mut self) -> bool {
        let (hub, store) = (Arc::clone(&self.hub), Arc::clone(&self.store));
        // Owned by the closure: it goes back into the journal even when nobody waits for it here any more.
        let writing = spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            commit(&hub, &mut store)
        });
        let error = match writing.await {
            Ok(Ok(())) => {
                self.retry = STORE_RETRY.0;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the broker's store is written again");
                }
                return true;
            }
            Ok(Err(error)) => one_line(&error),
            Err(panicked) => one_line(&panicked),
        };
        self.hub.counters.store_failures.increment();
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                %error,
                "the broker's store cannot be written; what is to be retained is not acknowledged until it can be"
            );
        }
        false
    }
}

fn commit(hub: &Hub, store: &mut Store) -> Result<(), CommitError> {
    let batch = if store.wants_everything()? {
        hub.everything()
    } else {
        hub.journal.take()
    };
    let unwritten = Unwritten {
        hub,
        batch: Some(batch),
    };
    unwritten.write(store)
}

/// A batch that goes back into the journal unless it is written, also after a panic.
struct Unwritten<'a> {
    hub: &'a Hub,
    batch: Option<Batch>,
}

impl Unwritten<'_> {
    fn write(mut self, store: &mut Store) -> Result<(), CommitError> {
        let Some(batch) = &self.batch else {
            return Ok(());
        };
        if batch.len() > 0 {
            store.commit(batch)?;
            self.hub.counters.store_commits.increment();
        }
        self.hub.journal.written(batch);
        self.batch = None;
        Ok(())
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.hub.journal.put_back(batch);
        }
    }
}
