//! A registry at whose calls something happens: it fails, or the process dies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use enrollment::{
    Directory, Entry, Kind, Misnamed, Refusal, Registry, RegistryError, Revision, Title,
};

/// A directory as a registry, with something that happens around its calls.
pub(crate) struct Faulty<'a, F> {
    inner: &'a Directory,
    calls: AtomicUsize,
    event: F,
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The call has had no effect.
    Before,
    /// It has.
    After,
}

impl<'a, F> Faulty<'a, F>
where
    F: Fn(usize, Moment) -> Result<(), RegistryError> + Send + Sync,
{
    /// The event is told the number of each call, from 1, before the call and after it.
    pub(crate) fn new(inner: &'a Directory, event: F) -> Self {
        Self {
            inner,
            calls: AtomicUsize::new(0),
            event,
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (self.event)(number, Moment::Before)?;
        let result = call.await;
        (self.event)(number, Moment::After)?;
        result
    }
}

impl<F> Registry for Faulty<'_, F>
where
    F: Fn(usize, Moment) -> Result<(), RegistryError> + Send + Sync,
{
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        self.call(self.inner.list(kind)).await
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        self.call(self.inner.get(title)).await
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        self.call(self.inner.put(title, body)).await
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        self.call(self.inner.close(title, revision)).await
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        self.call(self.inner.refuse(title, revision, refusal)).await
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        self.call(self.inner.refusal(title, revision)).await
    }

    async fn mark_seen(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        self.call(self.inner.mark_seen(title, revision)).await
    }

    async fn is_seen(&self, title: &Title, revision: &Revision) -> Result<bool, RegistryError> {
        self.call(self.inner.is_seen(title, revision)).await
    }

    async fn misnamed(&self) -> Result<Vec<Misnamed>, RegistryError> {
        self.call(self.inner.misnamed()).await
    }

    async fn refuse_misnamed(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        self.call(self.inner.refuse_misnamed(misnamed)).await
    }

    async fn replaces(&self, entry: &Entry) -> Result<bool, RegistryError> {
        self.inner.replaces(entry).await
    }

    fn poll_interval(&self) -> Duration {
        self.inner.poll_interval()
    }
}
