//! A signer whose registry is out of reach between any two of its calls, and one that is started after it.

use enrollment::RegistryError;
use signer::Outcome;

use crate::faulty::{Faulty, Moment};
use crate::world::World;

/// Lets this many calls through; the last of them has its effect or not, and is answered with an error in any case.
fn failing_after(
    calls: usize,
    last_takes_effect: bool,
) -> impl Fn(usize, Moment) -> Result<(), RegistryError> + Send + Sync {
    move |number, moment| {
        let fails = match moment {
            Moment::Before => number > calls || number == calls && !last_takes_effect,
            Moment::After => number == calls,
        };
        if fails {
            return Err(RegistryError::Cut);
        }
        Ok(())
    }
}

#[tokio::test]
async fn no_interruption_makes_a_second_certificate() {
    let mut finished = 0;
    for calls in 1..=6 {
        for last_takes_effect in [false, true] {
            let world = World::new();
            let name = "333.hula.atlas";
            world.put_request(name).await;
            let failing = Faulty::new(&world.registry, failing_after(calls, last_takes_effect));
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
    // List, refusal, put, close: the fifth call is beyond the last of a signing.
    assert_eq!(finished, 4, "the table must reach the end of a signing");
}

#[tokio::test]
async fn what_failed_is_marked_as_seen_until_it_is_answered() {
    let world = World::new();
    world.put_request("333.hula.atlas").await;
    // Only the call that hands the certificate out fails.
    let failing = Faulty::new(&world.registry, |number, moment| {
        if (number, moment) == (3, Moment::Before) {
            return Err(RegistryError::Cut);
        }
        Ok(())
    });
    let outcomes = world.signer().once(&failing).await.unwrap();
    assert_eq!(outcomes[0].1, Outcome::Failed);
    let mark = world.path("registry/333.hula.atlas.x509.csr.seen");
    assert!(mark.exists());
    world.signer().once(&world.registry).await.unwrap();
    assert!(world.certificate("333.hula.atlas").await.is_some());
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_registry_out_of_reach_is_one_error() {
    let world = World::new();
    let failing = Faulty::new(&world.registry, failing_after(0, false));
    assert!(matches!(
        world.signer().once(&failing).await,
        Err(RegistryError::Cut)
    ));
}
