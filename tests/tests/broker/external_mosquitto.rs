//! Agent and controller with mosquitto, set up as `docs/brokers.md` says.

use e2e::{Mosquitto, World};
use rustix::process::Signal;

use super::external::Way;

#[test]
fn mosquitto_is_a_broker_like_ours() {
    let mut way = Way::enrolled(World::new());
    let broker = Mosquitto::start(&way.world, &way.rules("mosquitto"));
    way.start_agent();
    way.connect();
    way.stop_agent();
    way.start_agent();
    // The will: an agent that dies without a goodbye is shown as lost.
    way.agent.take().expect("it runs").signal(Signal::KILL);
    let entry = way
        .world
        .wait_for_presence(&way.controller, &way.device, false);
    assert_eq!(entry["lost"], true, "{entry}\n{}", broker.log());
}
