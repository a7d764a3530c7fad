//! PUBLISH and retained messages (sections 3.3 and 4.3).

use crate::broker::packets::{Connect, DISCONNECT, publish};
use crate::broker::seen::Seen;

use super::super::case::{Case, Deed};
use super::super::stage::Stage;

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "QoS 0 is not answered",
        covers: &["3.3.4-1", "2.3.1-5", "4.3.1-1"],
        standard: &["PINGRESP; `x` on a QoS 0"],
        deed: Deed::Scene(|stage| {
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            bob.subscribe(&[(&stage.topic("a"), 0)]);
            let answer = alice.publish(&stage.topic("a"), "x", 0, false);
            format!("{}; {}", stage.tell(&answer), stage.tell(&[bob.next()]))
        }),
    },
    Case {
        name: "QoS 1 is answered with its identifier",
        covers: &["3.3.4-1", "2.3.1-6", "4.3.2-2"],
        standard: &["PUBACK 1, PUBACK 2573, PUBACK 65535, PUBACK 1"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            let answers = [1, 0x0a0d, 0xffff, 1].map(|id| {
                alice.send(&publish(&stage.topic("a"), "x", 1, false, id));
                match alice.next() {
                    Seen::PubAck(id) => format!("PUBACK {id}"),
                    other => other.to_string(),
                }
            });
            answers.join(", ")
        }),
    },
    Case {
        name: "QoS 2 is answered with its identifier",
        covers: &["3.3.4-1", "2.3.1-6", "4.3.3-2"],
        standard: &["PUBREC; PUBCOMP"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            let answer = alice.publish(&stage.topic("a"), "x", 2, false);
            stage.tell(&answer)
        }),
    },
    Case {
        name: "QoS 2 to a subscriber",
        covers: &["4.3.3-1", "3.8.4-6"],
        standard: &["`x` on a QoS 2"],
        deed: Deed::Scene(|stage| deliver(stage, 2, 2)),
    },
    Case {
        name: "PUBREL for nothing",
        covers: &["4.3.3-2"],
        standard: &["PUBCOMP; PINGRESP", "PINGRESP", "closed"],
        deed: Deed::After(b"\x62\x02\x12\x34"),
    },
    Case {
        name: "QoS 0 to a subscription of QoS 0",
        covers: &["3.8.4-6", "2.3.1-5"],
        standard: &["`x` on a QoS 0"],
        deed: Deed::Scene(|stage| deliver(stage, 0, 0)),
    },
    Case {
        name: "QoS 0 to a subscription of QoS 1",
        covers: &["3.8.4-6"],
        standard: &["`x` on a QoS 0"],
        deed: Deed::Scene(|stage| deliver(stage, 0, 1)),
    },
    Case {
        name: "QoS 1 to a subscription of QoS 0",
        covers: &["3.8.4-6"],
        standard: &["`x` on a QoS 0"],
        deed: Deed::Scene(|stage| deliver(stage, 1, 0)),
    },
    Case {
        name: "QoS 1 to a subscription of QoS 1",
        covers: &["3.8.4-6", "4.3.2-1"],
        standard: &["`x` on a QoS 1"],
        deed: Deed::Scene(|stage| deliver(stage, 1, 1)),
    },
    Case {
        name: "QoS 1 to a subscription of QoS 2",
        covers: &["3.8.4-6"],
        standard: &["`x` on a QoS 1"],
        deed: Deed::Scene(|stage| deliver(stage, 1, 2)),
    },
    Case {
        name: "a hundred messages whose answers are not waited for",
        covers: &["3.3.4-1", "4.3.2-2", "4.6.0-6"],
        standard: &["PUBACK of 1 to 100 in order; 100 in order"],
        deed: Deed::Scene(pipeline),
    },
    Case {
        name: "a retained message with a DISCONNECT behind it",
        covers: &["3.3.1-5", "4.3.2-2"],
        standard: &["`x` on a QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.dial("alice");
            let connect = Connect::new(stage.id("alice")).bytes();
            let message = publish(&stage.topic("a"), "x", 1, true, 1);
            alice.send(&[&connect[..], &message, DISCONNECT].concat());
            alice.until(|_| false);
            retain(stage, &[], &["a"])
        }),
    },
    Case {
        name: "DUP of a publisher is not passed on",
        covers: &["3.3.1-3"],
        standard: &["PUBACK; `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            bob.subscribe(&[(&stage.topic("a"), 1)]);
            let mut bytes = publish(&stage.topic("a"), "x", 1, false, 7);
            bytes[0] |= 0x08;
            alice.send(&bytes);
            stage.tell(&[alice.next(), bob.next()])
        }),
    },
    Case {
        name: "an identifier that was acknowledged is that of a new message",
        covers: &["4.3.2-2"],
        standard: &["`x` on a QoS 1; `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            bob.subscribe(&[(&stage.topic("a"), 1)]);
            let mut bytes = publish(&stage.topic("a"), "x", 1, false, 7);
            alice.send(&bytes);
            alice.next();
            bytes[0] |= 0x08;
            alice.send(&bytes);
            alice.next();
            stage.tell(&stage.settle(&mut bob, &mut alice))
        }),
    },
    Case {
        name: "every subscriber has its own delivery",
        covers: &["4.5.0-1", "3.3.2-3"],
        standard: &["alice hears `x` on a QoS 0; bob hears `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            let mut carol = stage.connect("carol");
            alice.subscribe(&[(&topic, 0)]);
            bob.subscribe(&[(&stage.topic("+"), 1)]);
            carol.publish(&topic, "x", 1, false);
            let (alice, bob) = (stage.tell(&[alice.next()]), stage.tell(&[bob.next()]));
            format!("alice hears {alice}; bob hears {bob}")
        }),
    },
    Case {
        name: "a publisher hears itself",
        covers: &["4.5.0-1"],
        standard: &["PUBACK and `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            alice.subscribe(&[(&stage.topic("a"), 1)]);
            alice.send(&publish(&stage.topic("a"), "x", 1, false, 7));
            // In which order is for the broker to choose.
            let mut seen = [alice.next(), alice.next()].map(|seen| stage.tell(&[seen]));
            seen.sort();
            seen.join(" and ")
        }),
    },
    Case {
        name: "an empty message that is not retained is delivered",
        covers: &["3.3.4-1", "4.5.0-1"],
        standard: &["`` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            bob.subscribe(&[(&stage.topic("a"), 1)]);
            alice.publish(&stage.topic("a"), "", 1, false);
            stage.tell(&[bob.next()])
        }),
    },
    Case {
        name: "a PUBLISH without permission",
        covers: &["3.3.5-2"],
        standard: &["PUBACK", "closed"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            stage.tell(&alice.publish("forbidden", "x", 1, false))
        }),
    },
    Case {
        name: "a payload of 16 KiB",
        covers: &["4.5.0-1"],
        standard: &["PUBACK; 16384 bytes"],
        deed: Deed::Scene(|stage| large(stage, 16 * 1024)),
    },
    Case {
        name: "a payload of 100 KiB",
        covers: &["4.5.0-1"],
        standard: &["PUBACK; 102400 bytes"],
        deed: Deed::Scene(|stage| large(stage, 100 * 1024)),
    },
    Case {
        name: "a retained message waits for subscribers, with its QoS",
        covers: &["3.3.1-5", "3.3.1-6", "3.3.1-8"],
        standard: &["`x` on a QoS 1 retained; `y` on b QoS 0 retained"],
        deed: Deed::Scene(|stage| retain(stage, &[("a", "x", 1), ("b", "y", 0)], &["a", "b"])),
    },
    Case {
        name: "the last retained message of each topic counts",
        covers: &["3.3.1-5", "3.3.1-6", "3.3.1-7"],
        standard: &["`new` on a QoS 0 retained; `newer` on b QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let said = [
                ("a", "old", 1),
                ("a", "new", 0),
                ("b", "old", 0),
                ("b", "newer", 1),
            ];
            retain(stage, &said, &["a", "b"])
        }),
    },
    Case {
        name: "an empty retained message deletes",
        covers: &["3.3.1-10", "3.3.1-11"],
        standard: &["nothing"],
        deed: Deed::Scene(|stage| {
            let said = [("a", "x", 1), ("a", "", 1), ("b", "x", 1), ("b", "", 0)];
            retain(stage, &said, &["a", "b"])
        }),
    },
    Case {
        name: "an empty retained message is delivered as any other",
        covers: &["3.3.1-10", "3.3.1-9"],
        standard: &["`` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
            bob.subscribe(&[(&stage.topic("a"), 1)]);
            alice.publish(&stage.topic("a"), "", 1, true);
            stage.tell(&[bob.next()])
        }),
    },
    Case {
        name: "a message that is not retained leaves the retained one alone",
        covers: &["3.3.1-12"],
        standard: &["`kept` on a QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let mut carol = stage.connect("carol");
            carol.publish(&stage.topic("a"), "kept", 1, true);
            carol.publish(&stage.topic("a"), "other", 1, false);
            carol.publish(&stage.topic("a"), "", 1, false);
            carol.publish(&stage.topic("b"), "other", 1, false);
            retain(stage, &[], &["a", "b"])
        }),
    },
    Case {
        name: "the retain flag is for new subscriptions only",
        covers: &["3.3.1-8", "3.3.1-9"],
        standard: &["`live` on a QoS 1; then `live` on a QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&topic, 1)]);
            carol.publish(&topic, "live", 1, true);
            let live = stage.settle(&mut bob, &mut carol);
            bob.unsubscribe(&[&topic]);
            bob.subscribe(&[(&topic, 1)]);
            let then = stage.settle(&mut bob, &mut carol);
            format!("{}; then {}", stage.tell(&live), stage.tell(&then))
        }),
    },
    Case {
        name: "retained messages outlive the session of their publisher",
        covers: &["3.1.2-7"],
        standard: &["`x` on a QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            alice.publish(&stage.topic("a"), "x", 1, true);
            alice.disconnect();
            drop(stage.connect("alice"));
            retain(stage, &[], &["a"])
        }),
    },
    Case {
        name: "retained messages are lowered to the subscription's QoS",
        covers: &["3.3.1-6", "3.8.4-6"],
        standard: &["`x` on a QoS 0 retained"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            carol.publish(&stage.topic("a"), "x", 1, true);
            bob.subscribe(&[(&stage.topic("a"), 0)]);
            stage.tell(&[bob.next()])
        }),
    },
];

/// One message from carol to bob.
fn deliver(stage: &Stage, published: u8, subscribed: u8) -> String {
    let topic = stage.topic("a");
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    bob.subscribe(&[(&topic, subscribed)]);
    let answer = carol.publish(&topic, "x", published, false);
    if answer.last() == Some(&Seen::Closed) {
        return "its publisher is closed".to_owned();
    }
    let heard = stage.settle(&mut bob, &mut carol);
    stage.tell(&heard)
}

/// Publishes retained messages; what a subscription made afterwards hears.
fn retain(stage: &Stage, said: &[(&str, &str, u8)], topics: &[&str]) -> String {
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    for (topic, text, qos) in said {
        carol.publish(&stage.topic(topic), text, *qos, true);
    }
    let mut heard = Vec::new();
    for topic in topics {
        bob.subscribe(&[(&stage.topic(topic), 1)]);
        heard.extend(stage.settle(&mut bob, &mut carol));
    }
    stage.tell(&heard)
}

/// Messages of all kinds in one go: the disk has to be waited for by some and not by others.
fn pipeline(stage: &Stage) -> String {
    let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
    bob.subscribe(&[(&stage.topic("+"), 1)]);
    let mut bytes = Vec::new();
    for id in 1..=100_u16 {
        let topic = stage.topic(if id % 3 == 0 { "retained" } else { "live" });
        bytes.extend(publish(&topic, &id.to_string(), 1, id % 3 == 0, id));
    }
    alice.send(&bytes);
    let answers: Vec<_> = (0..100).map(|_| alice.next()).collect();
    let acknowledged = if answers.iter().cloned().eq((1..=100).map(Seen::PubAck)) {
        "PUBACK of 1 to 100 in order".to_owned()
    } else {
        format!("{answers:?}")
    };
    let heard = stage.settle(&mut bob, &mut alice);
    let numbers = heard.iter().filter_map(|seen| match seen {
        Seen::Publish(heard) => heard.payload.parse::<u16>().ok(),
        _ => None,
    });
    // The order counts for each topic.
    let (retained, live): (Vec<_>, Vec<_>) = numbers.partition(|number| number % 3 == 0);
    if retained.is_sorted() && live.is_sorted() && heard.len() == 100 {
        format!("{acknowledged}; 100 in order")
    } else {
        format!("{acknowledged}; {}", stage.tell(&heard))
    }
}

fn large(stage: &Stage, length: usize) -> String {
    let (mut alice, mut bob) = (stage.connect("alice"), stage.connect("bob"));
    bob.subscribe(&[(&stage.topic("a"), 0)]);
    let answer = alice.publish(&stage.topic("a"), &"x".repeat(length), 1, false);
    if answer.last() == Some(&Seen::Closed) {
        return stage.tell(&answer);
    }
    match bob.next() {
        Seen::Publish(heard) => format!("{}; {} bytes", stage.tell(&answer), heard.payload.len()),
        other => other.to_string(),
    }
}
