//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11).

use crate::broker::packets::{subscribe, unsubscribe};
use crate::broker::seen::{Heard, Seen};

use super::super::case::{Case, Deed};

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "a SUBSCRIBE is answered with its identifier",
        covers: &["3.8.4-1", "3.8.4-2", "2.3.1-7"],
        standard: &["SUBACK of 4660"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            alice.send(&subscribe(0x1234, &[(&stage.topic("a"), 1)]));
            match alice.next() {
                Seen::SubAck(id, _) => format!("SUBACK of {id}"),
                other => other.to_string(),
            }
        }),
    },
    Case {
        name: "each filter has its return code, in order",
        covers: &["3.8.4-5", "3.9.3-1", "3.9.3-2", "3.8.4-4"],
        standard: &["SUBACK 1 0 1"],
        deed: Deed::Scene(|stage| {
            let filters = ["a", "b/+", "c/#"].map(|rest| stage.topic(rest));
            let mut alice = stage.connect("alice");
            let filters = [(&*filters[0], 1), (&*filters[1], 0), (&*filters[2], 1)];
            stage.tell(&alice.subscribe(&filters))
        }),
    },
    Case {
        name: "what a subscription of QoS 2 is granted",
        covers: &["3.8.4-5", "3.8.4-6"],
        standard: &["SUBACK 2", "SUBACK 1", "SUBACK 0"],
        deed: Deed::Scene(|stage| {
            stage.tell(&stage.connect("alice").subscribe(&[(&stage.topic("a"), 2)]))
        }),
    },
    Case {
        name: "nine filters in one SUBSCRIBE",
        covers: &["3.8.4-4", "3.8.4-5"],
        standard: &["SUBACK 0 0 0 0 0 0 0 0 0"],
        deed: Deed::Scene(|stage| {
            let topics: Vec<_> = (0..9)
                .map(|number| stage.topic(&number.to_string()))
                .collect();
            let filters: Vec<_> = topics.iter().map(|topic| (&**topic, 0)).collect();
            stage.tell(&stage.connect("alice").subscribe(&filters))
        }),
    },
    Case {
        name: "the filters of one SUBSCRIBE are as many SUBSCRIBEs",
        covers: &["3.8.4-4", "3.3.1-6"],
        standard: &["`1` on a QoS 1 retained; `1` on a QoS 1 retained; `2` on b QoS 1 retained"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            carol.publish(&stage.topic("a"), "1", 1, true);
            carol.publish(&stage.topic("b"), "2", 1, true);
            let mut all = bob.subscribe(&[(&stage.topic("a"), 1), (&stage.topic("+"), 1)]);
            all.retain(|seen| !matches!(seen, Seen::SubAck(..)));
            all.extend(stage.settle(&mut bob, &mut carol));
            stage.tell(&sorted(all))
        }),
    },
    Case {
        name: "the same filter again takes the place of the first",
        covers: &["3.8.4-3", "3.3.1-6"],
        standard: &["`r` on a QoS 1 retained; then `r` on a QoS 0 retained; then `x` on a QoS 0"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            carol.publish(&topic, "r", 1, true);
            let mut all = Vec::new();
            for qos in [1, 0] {
                bob.subscribe(&[(&topic, qos)]);
                all.push(stage.tell(&stage.settle(&mut bob, &mut carol)));
            }
            carol.publish(&topic, "x", 1, false);
            all.push(stage.tell(&stage.settle(&mut bob, &mut carol)));
            all.join("; then ")
        }),
    },
    Case {
        name: "the highest QoS of subscriptions that overlap counts",
        covers: &["3.3.5-1", "3.3.2-3"],
        // A copy for each of the others is permitted.
        standard: &["`x` on a QoS 1", "`x` on a QoS 0; `x` on a QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&stage.topic("a"), 0), (&stage.topic("+"), 1)]);
            carol.publish(&stage.topic("a"), "x", 1, false);
            let heard = stage.settle(&mut bob, &mut carol);
            stage.tell(&sorted(heard))
        }),
    },
    Case {
        name: "a message published while a subscription is replaced",
        covers: &["3.8.4-3"],
        standard: &["20 of 20"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&topic, 1)]);
            let mut all = Vec::new();
            for number in 0..20 {
                carol.publish(&topic, &number.to_string(), 1, false);
                all.extend(bob.subscribe(&[(&topic, 1)]));
            }
            all.extend(stage.settle(&mut bob, &mut carol));
            let messages = all.iter().filter(|seen| matches!(seen, Seen::Publish(_)));
            format!("{} of 20", messages.count())
        }),
    },
    Case {
        name: "an UNSUBSCRIBE is answered with its identifier",
        covers: &["3.10.4-4", "2.3.1-7"],
        standard: &["UNSUBACK of 4660"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.connect("alice");
            alice.subscribe(&[(&stage.topic("a"), 1)]);
            alice.send(&unsubscribe(0x1234, &[&stage.topic("a")]));
            match alice.next() {
                Seen::UnsubAck(id) => format!("UNSUBACK of {id}"),
                other => other.to_string(),
            }
        }),
    },
    Case {
        name: "an UNSUBSCRIBE from nothing is answered",
        covers: &["3.10.4-5"],
        standard: &["UNSUBACK"],
        deed: Deed::Scene(|stage| {
            stage.tell(&stage.connect("alice").unsubscribe(&[&stage.topic("a")]))
        }),
    },
    Case {
        name: "nothing new after an UNSUBSCRIBE",
        covers: &["3.10.4-1", "3.10.4-2"],
        standard: &["nothing"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&stage.topic("a/+"), 1)]);
            bob.unsubscribe(&[&stage.topic("a/+")]);
            carol.publish(&stage.topic("a/b"), "x", 1, false);
            stage.tell(&stage.settle(&mut bob, &mut carol))
        }),
    },
    Case {
        name: "an UNSUBSCRIBE is for the very same filter",
        covers: &["3.10.4-1"],
        standard: &["`x` on a/b QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&stage.topic("a/+"), 1)]);
            for other in ["a/b", "a/#", "A/+", "a/+/"] {
                bob.unsubscribe(&[&stage.topic(other)]);
            }
            carol.publish(&stage.topic("a/b"), "x", 1, false);
            stage.tell(&stage.settle(&mut bob, &mut carol))
        }),
    },
    Case {
        name: "the filters of one UNSUBSCRIBE are as many UNSUBSCRIBEs",
        covers: &["3.10.4-6"],
        standard: &["UNSUBACK; `3` on c QoS 1"],
        deed: Deed::Scene(|stage| {
            let topics = ["a", "b", "c"].map(|rest| stage.topic(rest));
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[(&topics[0], 1), (&topics[1], 1), (&topics[2], 1)]);
            let answer = bob.unsubscribe(&[&topics[0], &stage.topic("none"), &topics[1]]);
            for (topic, text) in topics.iter().zip(["1", "2", "3"]) {
                carol.publish(topic, text, 1, false);
            }
            let heard = stage.settle(&mut bob, &mut carol);
            format!("{}; {}", stage.tell(&answer), stage.tell(&heard))
        }),
    },
    Case {
        name: "a delivery that has begun is completed after an UNSUBSCRIBE",
        covers: &["3.10.4-3"],
        standard: &["`x` on a QoS 1; then `x` on a QoS 1 again"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let mut carol = stage.connect("carol");
            let (mut bob, _) = stage.resume("bob");
            bob.acknowledges = false;
            bob.subscribe(&[(&topic, 1)]);
            carol.publish(&topic, "x", 1, false);
            let first = bob.next();
            bob.unsubscribe(&[&topic]);
            drop(bob);
            let (mut bob, _) = stage.resume("bob");
            let then = stage.settle(&mut bob, &mut carol);
            format!("{}; then {}", stage.tell(&[first]), stage.tell(&then))
        }),
    },
];

/// Where the order is the broker's to choose.
fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|seen| match seen {
        Seen::Publish(Heard { topic, qos, .. }) => (topic.clone(), *qos),
        other => (other.to_string(), 0),
    });
    seen
}
