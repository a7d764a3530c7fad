//! Topic names and filters (section 4.7), and texts (1.5.3).

use super::super::case::{Case, Deed};
use super::super::stage::Stage;

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "filters with wildcards are supported",
        covers: &["3.8.3-2", "4.7.1-1"],
        standard: &["SUBACK 0 0 0"],
        deed: Deed::Scene(|stage| {
            stage.tell(
                &stage
                    .connect("alice")
                    .subscribe(&[("#", 0), ("+", 0), ("+/+", 0)]),
            )
        }),
    },
    Case {
        name: "`#` is for its level and all below",
        covers: &["4.7.1-2"],
        standard: &["s/p, s/p/r, s/p/r/w, s/p/"],
        deed: Deed::Scene(|stage| {
            matching(
                stage,
                "s/p/#",
                &["s/p", "s/p/r", "s/p/r/w", "s/p/", "s", "s/px", "s/q/p"],
            )
        }),
    },
    Case {
        name: "`+` is for one level, which may be empty",
        covers: &["4.7.1-3"],
        standard: &["s/a/r, s//r"],
        deed: Deed::Scene(|stage| {
            matching(
                stage,
                "s/+/r",
                &["s/a/r", "s//r", "s/r", "s/a/b/r", "s/a", "s/a/r/"],
            )
        }),
    },
    Case {
        name: "`+` at the end",
        covers: &["4.7.1-3"],
        standard: &["s/, s/a"],
        deed: Deed::Scene(|stage| matching(stage, "s/+", &["s", "s/", "s/a", "s/a/b"])),
    },
    Case {
        name: "`+` and `#` together",
        covers: &["4.7.1-2", "4.7.1-3"],
        standard: &["a/s, a/s/b, /s"],
        deed: Deed::Scene(|stage| matching(stage, "+/s/#", &["a/s", "a/s/b", "/s", "a/b/s"])),
    },
    Case {
        name: "`#` is not for topics that begin with `$`",
        covers: &["4.7.2-1"],
        standard: &["nothing"],
        deed: Deed::Scene(|stage| dollar(stage, &["#"])),
    },
    Case {
        name: "`+` is not for topics that begin with `$`",
        covers: &["4.7.2-1"],
        standard: &["nothing"],
        deed: Deed::Scene(|stage| dollar(stage, &["+/x", "+/#"])),
    },
    Case {
        name: "a filter that begins with `$` is for topics that do",
        covers: &["4.7.2-1"],
        standard: &["`x` on $case/x QoS 1"],
        deed: Deed::Scene(|stage| dollar(stage, &["$case/+"])),
    },
    Case {
        name: "topics are compared byte by byte",
        covers: &["4.7.3-4", "3.3.2-3"],
        standard: &["\u{e9}"],
        deed: Deed::Scene(|stage| {
            matching(
                stage,
                "\u{e9}",
                &["\u{e9}", "e\u{301}", "\u{c9}", "e", " \u{e9}", "\u{e9}/"],
            )
        }),
    },
    Case {
        name: "U+FEFF is kept",
        covers: &["1.5.3-3", "4.7.3-4"],
        standard: &["\u{feff}a"],
        deed: Deed::Scene(|stage| matching(stage, "\u{feff}a", &["\u{feff}a", "a", "a\u{feff}"])),
    },
    Case {
        name: "a topic that begins with U+FEFF",
        covers: &["1.5.3-3"],
        standard: &["PUBACK; `x` on \u{feff}top QoS 1"],
        deed: Deed::Scene(|stage| {
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            bob.subscribe(&[("\u{feff}top", 1)]);
            let answer = carol.publish("\u{feff}top", "x", 1, false);
            format!("{}; {}", stage.tell(&answer), stage.tell(&[bob.next()]))
        }),
    },
    Case {
        name: "a topic with a space",
        covers: &["4.7.3-4"],
        standard: &["a b"],
        deed: Deed::Scene(|stage| matching(stage, "a b", &["a b", "a", "ab", "a  b"])),
    },
    Case {
        name: "a topic of 1,000 bytes",
        covers: &["4.7.3-3"],
        standard: &["SUBACK 0; PUBACK"],
        deed: Deed::Scene(|stage| long(stage, &stage.topic(&"a".repeat(990)))),
    },
    Case {
        name: "a topic of 10 levels",
        covers: &["4.7.3-3"],
        standard: &["SUBACK 0; PUBACK"],
        deed: Deed::Scene(|stage| long(stage, &stage.topic("1/2/3/4/5/6/7/8/9"))),
    },
    Case {
        name: "a topic of 65,535 bytes",
        covers: &["4.7.3-3"],
        standard: &["SUBACK 0; PUBACK"],
        deed: Deed::Scene(|stage| long(stage, &"a".repeat(65_535))),
    },
];

/// Subscribes below the case's own topic, publishes on each of these; which were heard.
fn matching(stage: &Stage, filter: &str, topics: &[&str]) -> String {
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    bob.subscribe(&[(&stage.topic(filter), 0)]);
    for topic in topics {
        carol.publish(&stage.topic(topic), "m", 1, false);
    }
    let heard = stage.tell(&stage.settle(&mut bob, &mut carol));
    let topics = heard.split("; ").map(|message| {
        let topic = message.strip_prefix("`m` on ").unwrap_or(message);
        topic.strip_suffix(" QoS 0").unwrap_or(topic)
    });
    topics.collect::<Vec<_>>().join(", ")
}

/// A message on a topic that begins with `$`, to whoever has these filters.
fn dollar(stage: &Stage, filters: &[&str]) -> String {
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    for filter in filters {
        bob.subscribe(&[(filter, 1)]);
    }
    carol.publish("$case/x", "x", 1, false);
    let mut heard = stage.settle(&mut bob, &mut carol);
    // What others have retained before, and the broker's own words, are not what this is about.
    heard.retain(|seen| seen.to_string().contains("$case"));
    stage.tell(&heard)
}

/// A subscription to a topic and a message on it.
fn long(stage: &Stage, topic: &str) -> String {
    let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
    let subscribed = stage.tell(&bob.subscribe(&[(topic, 0)]));
    let answer = stage.tell(&carol.publish(topic, "x", 1, false));
    format!("{subscribed}; {answer}")
}
