//! What the broker says of itself to a monitor.

use broker::{Broker, Limits};
use daemon::monitor::Source;

use crate::world::{Authority, World, config, wait_until};

#[tokio::test]
async fn it_is_ready_only_while_it_accepts() {
    let authority = Authority::new("atlas");
    let broker = Broker::bind(config(&authority, &authority.pem(), Limits::default())).unwrap();
    let vitals = broker.vitals();
    assert_eq!(
        vitals.unready().as_deref(),
        Some("broker: it accepts nobody yet")
    );
    let world = World::of(authority, broker);
    let ready = || async { (vitals.unready(), vitals.unready().is_none()) };
    wait_until(ready, "the broker to be ready").await;
    world.client("333.hula.atlas").await;
    world.stop().await;
    assert_eq!(vitals.unready().as_deref(), Some("broker: stopping"));
}
