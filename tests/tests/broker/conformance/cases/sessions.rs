//! Clean and kept sessions, takeover and keepalive (sections 3.1.2.4, 3.1.2.10, 3.1.4, 4.1 and 4.4).

use std::time::Duration;

use e2e::Stopwatch;

use crate::broker::packets::{Connect, acknowledgement};
use crate::broker::seen::Seen;

use super::super::case::{Case, Deed};
use super::super::stage::Stage;

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "a clean session is always new",
        covers: &["3.1.2-6", "3.1.4-3", "3.2.2-1"],
        standard: &["present false; then false; nothing"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let clean = Connect::new(stage.id("alice"));
            let (mut alice, first) = stage.connected("alice", &clean);
            alice.subscribe(&[(&topic, 1)]);
            alice.disconnect();
            carol.publish(&topic, "lost", 1, false);
            let (mut alice, then) = stage.connected("alice", &clean);
            carol.publish(&topic, "too", 1, false);
            let heard = stage.settle(&mut alice, &mut carol);
            format!("present {first}; then {then}; {}", stage.tell(&heard))
        }),
    },
    Case {
        name: "a kept session has its subscriptions and what was published meanwhile",
        covers: &[
            "3.1.2-4", "3.1.2-5", "3.1.4-3", "3.2.2-2", "3.2.2-3", "4.1.0-1", "4.5.0-1",
        ],
        standard: &[
            "present false; then true; `one` on a QoS 1; `two` on a QoS 1; `live` on a QoS 1",
        ],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, first) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            alice.disconnect();
            carol.publish(&topic, "one", 1, false);
            carol.publish(&topic, "two", 1, false);
            let (mut alice, then) = stage.resume("alice");
            carol.publish(&topic, "live", 1, false);
            let heard = stage.settle(&mut alice, &mut carol);
            format!("present {first}; then {then}; {}", stage.tell(&heard))
        }),
    },
    Case {
        name: "QoS 0 to a client that is away",
        covers: &["3.1.2-5"],
        // Only QoS 1 and 2 must be stored.
        standard: &["nothing", "`x` on a QoS 0"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            alice.disconnect();
            carol.publish(&topic, "x", 0, false);
            let (mut alice, _) = stage.resume("alice");
            let heard = stage.settle(&mut alice, &mut carol);
            stage.tell(&heard)
        }),
    },
    Case {
        name: "a clean session takes the place of a kept one",
        covers: &["3.1.2-6", "3.1.4-3", "3.2.2-1", "3.2.2-3"],
        standard: &["present false; afterwards false; nothing"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            alice.disconnect();
            carol.publish(&topic, "lost", 1, false);
            let clean = Connect::new(stage.id("alice"));
            let (alice, present) = stage.connected("alice", &clean);
            alice.disconnect();
            let (mut alice, afterwards) = stage.resume("alice");
            let heard = stage.settle(&mut alice, &mut carol);
            format!(
                "present {present}; afterwards {afterwards}; {}",
                stage.tell(&heard)
            )
        }),
    },
    Case {
        name: "what was not acknowledged comes again, in its order and with its identifiers",
        covers: &[
            "4.4.0-1", "4.6.0-1", "3.3.1-1", "2.3.1-4", "4.3.2-1", "4.1.0-2",
        ],
        standard: &[
            "CONNACK 0 session present; `1` on a QoS 1 again; `3` on a QoS 1 again; same identifiers true",
        ],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.acknowledges = false;
            alice.subscribe(&[(&topic, 1)]);
            for text in ["1", "2", "3"] {
                carol.publish(&topic, text, 1, false);
            }
            let sent = identifiers(&[alice.next(), alice.next(), alice.next()]);
            alice.send(&acknowledgement(0x40, sent[1]));
            alice.ping();
            drop(alice);
            let mut alice = stage.dial("alice");
            // The CONNACK is the first of all (MQTT-3.2.0-1).
            let seen = [
                alice.connect(&Connect::kept(stage.id("alice"))),
                alice.next(),
                alice.next(),
            ];
            let same = identifiers(&seen) == [sent[0], sent[2]];
            format!("{}; same identifiers {same}", stage.tell(&seen))
        }),
    },
    Case {
        name: "what was acknowledged does not come again",
        covers: &["4.3.2-1", "4.4.0-1"],
        standard: &["`1` on a QoS 1; `2` on a QoS 1; then nothing"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            carol.publish(&topic, "1", 1, false);
            carol.publish(&topic, "2", 1, false);
            let heard = stage.settle(&mut alice, &mut carol);
            alice.ping();
            drop(alice);
            let (mut alice, _) = stage.resume("alice");
            let then = stage.settle(&mut alice, &mut carol);
            format!("{}; then {}", stage.tell(&heard), stage.tell(&then))
        }),
    },
    Case {
        name: "a session that is there again is no new subscription",
        covers: &["3.1.2-4", "3.3.1-6"],
        standard: &["`x` on a QoS 1 retained; then nothing"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            carol.publish(&topic, "x", 1, true);
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            let first = stage.settle(&mut alice, &mut carol);
            alice.disconnect();
            let (mut alice, _) = stage.resume("alice");
            let then = stage.settle(&mut alice, &mut carol);
            format!("{}; then {}", stage.tell(&first), stage.tell(&then))
        }),
    },
    Case {
        name: "an UNSUBSCRIBE is kept with the session",
        covers: &["3.1.2-4", "3.10.4-2", "4.1.0-1"],
        standard: &["`y` on b QoS 1"],
        deed: Deed::Scene(|stage| {
            let (a, b, mut carol) = (stage.topic("a"), stage.topic("b"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&a, 1), (&b, 1)]);
            alice.unsubscribe(&[&a]);
            alice.disconnect();
            carol.publish(&a, "x", 1, false);
            carol.publish(&b, "y", 1, false);
            let (mut alice, _) = stage.resume("alice");
            stage.tell(&stage.settle(&mut alice, &mut carol))
        }),
    },
    Case {
        name: "identifiers in use are not used again",
        covers: &["2.3.1-1", "2.3.1-4", "4.3.2-1"],
        standard: &["10 messages, 10 identifiers"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let mut alice = stage.connect("alice");
            alice.acknowledges = false;
            alice.subscribe(&[(&topic, 1)]);
            let mut used = Vec::new();
            for number in 0..10 {
                carol.publish(&topic, &number.to_string(), 1, false);
                used.extend(identifiers(&[alice.next()]));
            }
            let messages = used.len();
            used.sort_unstable();
            used.dedup();
            format!("{messages} messages, {} identifiers", used.len())
        }),
    },
    Case {
        name: "a PUBACK for nothing",
        covers: &["4.8.0-1"],
        // The standard does not say whether it is a violation.
        standard: &["PINGRESP", "closed"],
        deed: Deed::After(b"\x40\x02\x12\x34"),
    },
    Case {
        name: "a client that connects again",
        covers: &["3.1.4-2", "3.1.3-2"],
        standard: &["the old one is closed; the new one hears `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut old, _) = stage.resume("alice");
            old.subscribe(&[(&topic, 1)]);
            let (mut new, present) = stage.resume("alice");
            assert!(present);
            let closed = old.until(|_| false);
            carol.publish(&topic, "x", 1, false);
            let heard = stage.settle(&mut new, &mut carol);
            format!(
                "the old one is {}; the new one hears {}",
                stage.tell(&closed),
                stage.tell(&heard)
            )
        }),
    },
    Case {
        name: "sessions belong to client ids",
        covers: &["3.1.3-2"],
        standard: &["present false; alice hears `x` on a QoS 1; bob hears nothing"],
        deed: Deed::Scene(|stage| {
            let (topic, mut carol) = (stage.topic("a"), stage.connect("carol"));
            let (mut alice, _) = stage.resume("alice");
            alice.subscribe(&[(&topic, 1)]);
            let (mut bob, present) = stage.resume("bob");
            carol.publish(&topic, "x", 1, false);
            let (at_alice, at_bob) = (
                stage.settle(&mut alice, &mut carol),
                stage.settle(&mut bob, &mut carol),
            );
            let (at_alice, at_bob) = (stage.tell(&at_alice), stage.tell(&at_bob));
            format!("present {present}; alice hears {at_alice}; bob hears {at_bob}")
        }),
    },
    Case {
        name: "a client that is silent for one and a half times its keepalive",
        covers: &["3.1.2-24", "3.1.2-8"],
        standard: &["closed in time; `gone` on will QoS 1"],
        deed: Deed::Scene(|stage| {
            let will = stage.topic("will");
            let mut bob = stage.connect("bob");
            bob.subscribe(&[(&will, 1)]);
            let connect = Connect {
                keepalive: 2,
                ..Connect::new(stage.id("alice"))
            };
            let watch = Stopwatch::start();
            let (mut alice, _) =
                stage.connected("alice", &connect.with_will(&will, "gone", 1, false));
            let closed = alice.until(|_| false);
            let silent = watch.elapsed();
            let when = if silent < Duration::from_millis(2_900) {
                "too early"
            } else {
                "in time"
            };
            format!(
                "{} {when}; {}",
                stage.tell(&closed),
                stage.tell(&[bob.next()])
            )
        }),
    },
    Case {
        name: "a client that pings within its keepalive",
        covers: &["3.1.2-24", "3.12.4-1"],
        standard: &["PINGRESP; PINGRESP; PINGRESP; PINGRESP"],
        deed: Deed::Scene(|stage| {
            let connect = Connect {
                keepalive: 2,
                ..Connect::new(stage.id("alice"))
            };
            let (mut alice, _) = stage.connected("alice", &connect);
            let mut all = Vec::new();
            for _ in 0..4 {
                all.extend(alice.within(Duration::from_secs(1)));
                all.extend(alice.ping());
            }
            stage.tell(&all)
        }),
    },
    Case {
        name: "messages of one client on one topic stay in order",
        covers: &["4.6.0-5", "4.6.0-6"],
        standard: &["100 in order"],
        deed: Deed::Scene(|stage| in_order(stage, 100)),
    },
];

fn identifiers(seen: &[Seen]) -> Vec<u16> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Publish(heard) => Some(heard.id),
            _ => None,
        })
        .collect()
}

fn in_order(stage: &Stage, count: usize) -> String {
    let topic = stage.topic("a");
    let (mut alice, mut carol) = (stage.connect("alice"), stage.connect("carol"));
    alice.subscribe(&[(&topic, 1)]);
    for number in 0..count {
        carol.publish(&topic, &number.to_string(), 1, false);
    }
    let heard = stage.settle(&mut alice, &mut carol);
    let expected = (0..count).map(|number| number.to_string());
    let payloads = heard.iter().map(|seen| match seen {
        Seen::Publish(heard) => heard.payload.clone(),
        other => other.to_string(),
    });
    if payloads.eq(expected) {
        format!("{count} in order")
    } else {
        stage.tell(&heard)
    }
}
