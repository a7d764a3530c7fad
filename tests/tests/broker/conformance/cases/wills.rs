//! Wills (section 3.1.2.5).

use crate::broker::packets::{Connect, DISCONNECT};
use crate::broker::seen::Seen;

use super::super::case::{Case, Deed};
use super::super::stage::Stage;

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "the will of a connection that is cut",
        covers: &["3.1.2-8", "3.1.2-9", "3.1.2-16", "3.3.1-9"],
        standard: &["`gone` on will QoS 1; later nothing"],
        deed: Deed::Scene(|stage| cut(stage, 1, false)),
    },
    Case {
        name: "a retained will",
        covers: &["3.1.2-17", "3.1.2-8", "3.3.1-9"],
        standard: &["`gone` on will QoS 1; later `gone` on will QoS 1 retained"],
        deed: Deed::Scene(|stage| cut(stage, 1, true)),
    },
    Case {
        name: "a will of QoS 0",
        covers: &["3.1.2-9"],
        standard: &["`gone` on will QoS 0; later `gone` on will QoS 0 retained"],
        deed: Deed::Scene(|stage| cut(stage, 0, true)),
    },
    Case {
        name: "a will of QoS 2",
        covers: &["3.1.2-14"],
        standard: &["CONNACK 0"],
        deed: Deed::First(|id| Connect::new(id).with_will("will", "gone", 2, false).bytes()),
    },
    Case {
        name: "an empty will",
        covers: &["3.1.2-9"],
        standard: &["`` on will QoS 1"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let mut bob = stage.connect("bob");
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect::new(stage.id("alice")).with_will(&will, "", 1, false);
            drop(stage.connected("alice", &connect));
            stage.tell(&[bob.next()])
        }),
    },
    Case {
        name: "an empty retained will deletes what is retained",
        covers: &["3.1.2-17", "3.3.1-10", "3.3.1-11"],
        standard: &["`` on will QoS 1; later nothing"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            carol.publish(&will, "kept", 1, true);
            bob.subscribe(&[(&will, 1)]);
            bob.next();
            let connect = Connect::new(stage.id("alice")).with_will(&will, "", 1, true);
            drop(stage.connected("alice", &connect));
            let heard = bob.next();
            bob.unsubscribe(&[&will]);
            bob.subscribe(&[(&will, 1)]);
            let later = stage.settle(&mut bob, &mut carol);
            format!("{}; later {}", stage.tell(&[heard]), stage.tell(&later))
        }),
    },
    Case {
        name: "no will after a DISCONNECT",
        covers: &["3.14.4-3", "3.1.2-8", "3.1.2-10"],
        standard: &["closed; nothing"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect::new(stage.id("alice")).with_will(&will, "gone", 1, true);
            let (mut alice, _) = stage.connected("alice", &connect);
            alice.send(DISCONNECT);
            let closed = alice.until(|_| false);
            // Whatever the old connection leaves behind has been left when its successor is there.
            drop(stage.connect("alice"));
            let heard = stage.settle(&mut bob, &mut carol);
            format!("{}; {}", stage.tell(&closed), stage.tell(&heard))
        }),
    },
    Case {
        name: "a will after a violation",
        covers: &["3.1.2-8", "4.8.0-1"],
        standard: &["closed; `gone` on will QoS 1"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let mut bob = stage.connect("bob");
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect::new(stage.id("alice")).with_will(&will, "gone", 1, false);
            let (mut alice, _) = stage.connected("alice", &connect);
            alice.send(b"\xf0\x00");
            let closed = alice.until(|_| false);
            format!("{}; {}", stage.tell(&closed), stage.tell(&[bob.next()]))
        }),
    },
    Case {
        name: "no will was given",
        covers: &["3.1.2-12"],
        standard: &["nothing"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&stage.topic("#"), 1)]);
            drop(stage.connect("alice"));
            drop(stage.connect("alice"));
            stage.tell(&stage.settle(&mut bob, &mut carol))
        }),
    },
    Case {
        name: "a will is published once",
        covers: &["3.1.2-10", "3.1.2-12"],
        standard: &["`gone` on will QoS 1; then nothing"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect::kept(stage.id("alice")).with_will(&will, "gone", 1, false);
            drop(stage.connected("alice", &connect));
            let first = bob.next();
            // The session is there again, but its will is not.
            let (alice, present) = stage.resume("alice");
            assert!(present);
            drop(alice);
            drop(stage.resume("alice"));
            let then = stage.settle(&mut bob, &mut carol);
            format!("{}; then {}", stage.tell(&[first]), stage.tell(&then))
        }),
    },
    Case {
        name: "the will of a client that connects again",
        covers: &["3.1.4-2", "3.1.2-8", "3.1.2-10"],
        standard: &["`old` on will QoS 1; `online` on will QoS 1; `new` on will QoS 1"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let mut bob = stage.connect("bob");
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect::new(stage.id("alice"));
            let (_old, _) = stage.connected("alice", &connect.with_will(&will, "old", 1, false));
            let (mut new, _) = stage.connected("alice", &connect.with_will(&will, "new", 1, false));
            new.publish(&will, "online", 1, false);
            drop(new);
            stage.tell(&[bob.next(), bob.next(), bob.next()])
        }),
    },
    Case {
        name: "the will of a CONNECT that is refused",
        covers: &["3.1.2-8", "3.1.4-5"],
        standard: &["CONNACK 1; closed; nothing"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect {
                level: 6,
                ..Connect::new(stage.id("alice"))
            };
            let mut alice = stage.dial("alice");
            alice.send(&connect.with_will(&will, "gone", 1, false).bytes());
            let refused = alice.until(|_| false);
            drop(stage.connect("alice"));
            let heard = stage.settle(&mut bob, &mut carol);
            format!("{}; {}", stage.tell(&refused), stage.tell(&heard))
        }),
    },
];

/// Cuts a connection with a will; what a subscriber hears, and what one who comes later.
fn cut(stage: &Stage, qos: u8, retain: bool) -> String {
    let will = stage.topic("will");
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    bob.subscribe(&[(&will, 2)]);
    let connect = Connect::new(stage.id("alice")).with_will(&will, "gone", qos, retain);
    drop(stage.connected("alice", &connect));
    let heard: Seen = bob.next();
    bob.disconnect();
    let mut late = stage.connect("bob");
    late.subscribe(&[(&will, 2)]);
    let later = stage.settle(&mut late, &mut carol);
    format!("{}; later {}", stage.tell(&[heard]), stage.tell(&later))
}
