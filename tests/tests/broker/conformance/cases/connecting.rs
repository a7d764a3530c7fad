//! The first packet of a connection (section 3.1), and what is answered to it (3.2).

use crate::broker::packets::{
    Connect, PINGREQ, connect_of, field, packet, publish, subscribe, text,
};
use crate::broker::seen::Seen;

use super::super::case::{Case, Deed};

/// Bits of the connect flags.
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const PASSWORD: u8 = 0x40;
const USER: u8 = 0x80;

const CLOSED: &[&str] = &["closed"];
const ACCEPTED: &[&str] = &["CONNACK 0"];

pub(in super::super) const CASES: &[Case] = &[
    Case {
        name: "a good CONNECT is accepted",
        covers: &[
            "3.1.4-4", "3.1.2-11", "3.1.3-1", "3.1.3-3", "7.1.1-1", "7.0.0-2",
        ],
        standard: ACCEPTED,
        deed: Deed::First(|id| Connect::new(id).bytes()),
    },
    Case {
        name: "a will, a user name and a password are taken in their order",
        covers: &["3.1.2-9", "3.1.2-19", "3.1.2-21", "3.1.3-1"],
        standard: ACCEPTED,
        deed: Deed::First(|id| {
            let connect = Connect::new(id).with_will("will", "gone", 1, false);
            let login = Some(("somebody", &b"\x00\xff"[..]));
            Connect { login, ..connect }.bytes()
        }),
    },
    Case {
        name: "the first packet is PINGREQ",
        covers: &["3.1.0-1"],
        standard: CLOSED,
        deed: Deed::First(|_| PINGREQ.to_vec()),
    },
    Case {
        name: "the first packet is PUBLISH",
        covers: &["3.1.0-1"],
        standard: CLOSED,
        deed: Deed::First(|_| publish("a", "x", 0, false, 0)),
    },
    Case {
        name: "the fixed header of CONNECT has a flag",
        covers: &["2.2.2-1", "2.2.2-2", "3.1.4-1"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let mut bytes = Connect::new(id).bytes();
            bytes[0] |= 1;
            bytes
        }),
    },
    Case {
        name: "another protocol name",
        covers: &["3.1.2-1", "3.2.2-6"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let rest = [&[4, CLEAN, 0, 60][..], &text(id)].concat();
            packet(0x10, &[text("MQTX"), rest].concat())
        }),
    },
    Case {
        name: "MQTT 3.1",
        covers: &["3.1.2-1"],
        // Another specification, in accordance with which a server may go on.
        standard: &["closed", "CONNACK 1; closed", "CONNACK 0"],
        deed: Deed::First(|id| {
            let rest = [&[3, CLEAN, 0, 60][..], &text(id)].concat();
            packet(0x10, &[text("MQIsdp"), rest].concat())
        }),
    },
    Case {
        name: "MQTT 5",
        covers: &["3.1.2-2"],
        standard: &["CONNACK 1; closed"],
        deed: Deed::First(|id| connect_of(5, CLEAN, 60, &[&[0][..], &text(id)].concat())),
    },
    Case {
        name: "protocol level 6",
        covers: &["3.1.2-2", "3.2.2-4", "3.2.2-5"],
        standard: &["CONNACK 1; closed"],
        deed: Deed::First(|id| {
            Connect {
                level: 6,
                ..Connect::new(id)
            }
            .bytes()
        }),
    },
    Case {
        name: "the reserved connect flag",
        covers: &["3.1.2-3", "3.1.4-1"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | 1, 60, &text(id))),
    },
    Case {
        name: "a will QoS without a will",
        covers: &["3.1.2-11", "3.1.2-13"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | 0x08, 60, &text(id))),
    },
    Case {
        name: "a will retain without a will",
        covers: &["3.1.2-11", "3.1.2-15"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | 0x20, 60, &text(id))),
    },
    Case {
        name: "a will of QoS 3",
        covers: &["3.1.2-14"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let fields = [text(id), text("will"), text("gone")].concat();
            connect_of(4, CLEAN | WILL | 0x18, 60, &fields)
        }),
    },
    Case {
        name: "a will without topic and message",
        covers: &["3.1.2-9"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | WILL, 60, &text(id))),
    },
    Case {
        name: "a will without message",
        covers: &["3.1.2-9"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | WILL, 60, &[text(id), text("will")].concat())),
    },
    Case {
        name: "a will topic and message without the flag",
        covers: &["3.1.2-11"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let fields = [text(id), text("will"), text("gone")].concat();
            connect_of(4, CLEAN, 60, &fields)
        }),
    },
    Case {
        name: "a will topic with a wildcard",
        covers: &["3.3.2-2", "4.7.1-1"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            Connect::new(id)
                .with_will("will/+", "gone", 0, false)
                .bytes()
        }),
    },
    Case {
        name: "an empty will topic",
        covers: &["4.7.3-1"],
        standard: CLOSED,
        deed: Deed::First(|id| Connect::new(id).with_will("", "gone", 0, false).bytes()),
    },
    Case {
        name: "a will topic that is no UTF-8",
        covers: &["3.1.3-10", "1.5.3-1"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let fields = [text(id), field(b"will\xff"), text("gone")].concat();
            connect_of(4, CLEAN | WILL, 60, &fields)
        }),
    },
    Case {
        name: "a password without a user name",
        covers: &["3.1.2-22"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            connect_of(
                4,
                CLEAN | PASSWORD,
                60,
                &[text(id), text("secret")].concat(),
            )
        }),
    },
    Case {
        name: "the user name is missing",
        covers: &["3.1.2-19"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN | USER, 60, &text(id))),
    },
    Case {
        name: "the password is missing",
        covers: &["3.1.2-21"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let fields = [text(id), text("somebody")].concat();
            connect_of(4, CLEAN | USER | PASSWORD, 60, &fields)
        }),
    },
    Case {
        name: "a user name without the flag",
        covers: &["3.1.2-18"],
        standard: CLOSED,
        deed: Deed::First(|id| connect_of(4, CLEAN, 60, &[text(id), text("somebody")].concat())),
    },
    Case {
        name: "a password without the flag",
        covers: &["3.1.2-20"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            let fields = [text(id), text("somebody"), text("secret")].concat();
            connect_of(4, CLEAN | USER, 60, &fields)
        }),
    },
    Case {
        name: "a user name that is no UTF-8",
        covers: &["3.1.3-11", "1.5.3-1"],
        standard: CLOSED,
        deed: Deed::First(|id| {
            connect_of(
                4,
                CLEAN | USER,
                60,
                &[text(id), field(b"\xc3\x28")].concat(),
            )
        }),
    },
    Case {
        name: "no client id",
        covers: &["3.1.3-3"],
        standard: CLOSED,
        deed: Deed::First(|_| connect_of(4, CLEAN, 60, &[])),
    },
    Case {
        name: "a client id that is no UTF-8",
        covers: &["3.1.3-4", "1.5.3-1"],
        standard: CLOSED,
        deed: Deed::First(|_| connect_of(4, CLEAN, 60, &field(b"alice\xed\xa0\x80"))),
    },
    Case {
        name: "a client id with U+0000",
        covers: &["1.5.3-2"],
        standard: CLOSED,
        deed: Deed::First(|_| connect_of(4, CLEAN, 60, &text("alice\0"))),
    },
    Case {
        name: "an empty client id",
        covers: &["3.1.3-6"],
        standard: &["CONNACK 0", "CONNACK 2; closed"],
        deed: Deed::First(|_| Connect::new("").bytes()),
    },
    Case {
        name: "an empty client id with a session to be kept",
        covers: &["3.1.3-8", "3.2.2-4", "3.2.2-5"],
        standard: &["CONNACK 2; closed"],
        deed: Deed::First(|_| Connect::kept("").bytes()),
    },
    Case {
        name: "a client id of 23 letters and digits",
        covers: &["3.1.3-5", "3.1.3-9"],
        standard: ACCEPTED,
        deed: Deed::First(|_| Connect::new("0123456789abcXYZabcdXYZ").bytes()),
    },
    Case {
        name: "packets behind a CONNECT that is refused",
        covers: &["3.1.4-5"],
        standard: &["CONNACK 1; closed; SUBACK 1; nothing"],
        deed: Deed::Scene(|stage| {
            let topic = stage.topic("a");
            let connect = Connect {
                level: 6,
                ..Connect::new(stage.id("alice"))
            };
            let mut alice = stage.dial("alice");
            alice.send(&[connect.bytes(), publish(&topic, "x", 1, true, 1)].concat());
            let refused = alice.until(|_| false);
            let (mut bob, mut carol) = (stage.connect("bob"), stage.connect("carol"));
            let subscribed = bob.subscribe(&[(&topic, 1)]);
            let heard = stage.settle(&mut bob, &mut carol);
            [refused, subscribed, heard]
                .map(|seen| stage.tell(&seen))
                .join("; ")
        }),
    },
    Case {
        name: "packets behind a CONNECT whose answer is not waited for",
        covers: &["3.1.4-4", "3.2.0-1"],
        standard: &["CONNACK 0; SUBACK 1; PINGRESP"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.dial("alice");
            let connect = Connect::new(stage.id("alice")).bytes();
            let subscribe = subscribe(1, &[(&stage.topic("a"), 1)]);
            alice.send(&[&connect[..], &subscribe, PINGREQ].concat());
            stage.tell(&alice.until(|seen| *seen == Seen::PingResp))
        }),
    },
    Case {
        name: "packets that come byte by byte",
        covers: &["3.1.4-4", "3.12.4-1", "7.1.1-1"],
        standard: &["CONNACK 0; PINGRESP"],
        deed: Deed::Scene(|stage| {
            let mut alice = stage.dial("alice");
            let connect = Connect::new(stage.id("alice")).bytes();
            for byte in connect.iter().chain(PINGREQ) {
                alice.send(&[*byte]);
            }
            stage.tell(&alice.until(|seen| *seen == Seen::PingResp))
        }),
    },
];
