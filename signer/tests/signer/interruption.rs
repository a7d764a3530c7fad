//! A signer that is killed between any two of its calls, and one that is started after it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use enrollment::{Directory, Entry, Kind, Refusal, Registry, RegistryError, Revision, Title};
use signer::Outcome;

use crate::openssl::{P256, request};
use crate::world::{World, subject};

/// A registry that is out of reach after some calls. The call at which that happens may still have had its effect.
struct Failing<'a> {
    inner: &'a Directory,
    calls_left: AtomicUsize,
    last_takes_effect: bool,
}

impl Failing<'_> {
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let left = self
            .calls_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_sub(1))
            });
        match left.unwrap() {
            1 if self.last_takes_effect => call.await.and(Err(RegistryError::Cut)),
            0 | 1 => Err(RegistryError::Cut),
            2.. => call.await,
        }
    }
}

impl Registry for Failing<'_> {
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

    fn poll_interval(&self) -> Duration {
        self.inner.poll_interval()
    }
}

#[tokio::test]
async fn no_interruption_makes_a_second_certificate() {
    let mut finished = 0;
    for calls in 1..=6 {
        for last_takes_effect in [false, true] {
            let world = World::new();
            let name = "333.hula.atlas";
            world
                .put(
                    &format!("{name}.x509.csr"),
                    &request(&P256, &subject(name), &[]),
                )
                .await;
            let failing = Failing {
                inner: &world.registry,
                calls_left: AtomicUsize::new(calls),
                last_takes_effect,
            };
            // The first signer ends here, and with it its lock.
            if let Ok(outcomes) = world.signer().once(&failing).await {
                finished += usize::from(matches!(outcomes[0].1, Outcome::Signed { .. }));
            }
            let handed_out = world.certificate(name).await;

            let signer = world.signer();
            signer.once(&world.registry).await.unwrap();
            let certificate = world.certificate(name).await;
            assert!(certificate.is_some(), "after {calls} calls");
            if handed_out.is_some() {
                assert_eq!(certificate, handed_out, "after {calls} calls");
            }
            assert_eq!(world.issued(), 1, "after {calls} calls");
            assert!(world.requests().await.is_empty(), "after {calls} calls");
            assert!(signer.once(&world.registry).await.unwrap().is_empty());
        }
    }
    // List, refusal, put, close: the fifth call is beyond the last.
    assert_eq!(finished, 4, "the table must reach the end of a signing");
}

#[tokio::test]
async fn a_registry_out_of_reach_is_one_error() {
    let world = World::new();
    let failing = Failing {
        inner: &world.registry,
        calls_left: AtomicUsize::new(0),
        last_takes_effect: false,
    };
    assert!(matches!(
        world.signer().once(&failing).await,
        Err(RegistryError::Cut)
    ));
}
