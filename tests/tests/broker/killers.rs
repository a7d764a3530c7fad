//! What was seen to stop a broker that is much used, each against ours as it is built. None of it may be noticed by anybody
//! but whoever does it.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use e2e::Stopwatch;

use super::packets::{Connect, DISCONNECT, publish, subscribe};
use super::realm::{ORDER, PRESENCE, PRESENCES, Realm};
use super::seen::Seen;

/// A. Client ids that nobody can have, twice each: the second made every newcomer be refused for ever.
#[test]
fn a_client_ids_that_nobody_can_have() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.device);
    for id in [
        "a/b",
        "a/b",
        "+",
        "+",
        "#",
        "#",
        "$",
        "$",
        "\u{e9}",
        "\u{e9}",
        "\u{1f600}",
    ] {
        let mut party = realm.dial(&realm.other);
        party.send(&Connect::new(id).bytes());
        let refused = Seen::ConnAck {
            present: false,
            code: 2,
        };
        assert_eq!(party.until(|_| false), [refused, Seen::Closed], "{id}");
    }
    realm.still_serves(&mut witness);
}

/// B. Topics that begin with a character of several bytes: one message ended the router.
#[test]
fn b_topics_that_begin_with_a_character_of_several_bytes() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.device);
    for topic in [
        "\u{e9}/x",
        "\u{e9}",
        "\u{1f600}/x",
        "\u{feff}",
        "\u{e9}/\u{e9}/\u{e9}",
    ] {
        let mut party = realm.connect(&realm.other);
        party.send(&subscribe(1, &[(topic, 1)]));
        assert_eq!(party.next(), Seen::SubAck(1, vec![0x80]), "{topic}");
        for bytes in [
            publish(topic, "x", 0, false, 0),
            publish(topic, "", 1, true, 1),
        ] {
            let mut party = realm.connect(&realm.other);
            party.send(&bytes);
            assert_eq!(party.until(|_| false), [Seen::Closed], "{topic}");
        }
        let mut party = realm.dial(&realm.other);
        let id = realm.other.id();
        party.send(&Connect::new(&id).with_will(topic, "x", 1, true).bytes());
        let refused = Seen::ConnAck {
            present: false,
            code: 5,
        };
        assert_eq!(party.until(|_| false), [refused, Seen::Closed], "{topic}");
    }
    realm.still_serves(&mut witness);
}

/// C. A subscriber that does not read is taken over while much waits for it; its successor leaves; then it reads.
#[test]
fn c_a_stalled_subscriber_that_was_taken_over() {
    for clean in [true, false] {
        let realm = Realm::start();
        let mut witness = realm.connect(&realm.other);
        let id = realm.controller.id();
        let connect = Connect {
            clean,
            ..Connect::new(&id)
        };
        let mut stalled = realm.connect_with(&realm.controller, &connect);
        stalled.subscribe(&[(PRESENCE, 1)]);
        let mut device = realm.connect(&realm.device);
        for _ in 0..400 {
            let answer = device.publish(PRESENCE, &"x".repeat(1_000), 1, false);
            assert!(matches!(answer[..], [Seen::PubAck(_)]), "{answer:?}");
        }
        let mut successor = realm.connect_with(&realm.controller, &connect);
        successor.send(DISCONNECT);
        let ended = successor.until(|_| false);
        assert_eq!(ended.last(), Some(&Seen::Closed));
        let ended = stalled.until(|_| false);
        assert_eq!(ended.last(), Some(&Seen::Closed));
        realm.still_serves(&mut witness);
        let mut again = realm.connect_with(&realm.controller, &connect);
        again.subscribe(&[(PRESENCE, 1)]);
        device.publish(PRESENCE, "end", 1, false);
        let heard =
            again.until(|seen| matches!(seen, Seen::Publish(heard) if heard.payload == "end"));
        assert_ne!(heard.last(), Some(&Seen::Closed));
    }
}

/// D. Clients that come and go one after the other, each as soon as the last has gone: the late end of one was that of
/// another.
#[test]
#[expect(clippy::disallowed_methods, reason = "a pace, not a wait for anything")]
fn d_clients_that_come_and_go() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.device);
    let (visitors, id) = ([&realm.controller, &realm.other], realm.other.id());
    for round in 0..200 {
        let visitor = visitors[round % 2];
        // A device may connect some ten times a second.
        std::thread::sleep(Duration::from_millis(60));
        let mut party = if round % 4 == 1 {
            realm.connect_with(visitor, &Connect::kept(&id))
        } else {
            realm.connect(visitor)
        };
        let subscribed = party.subscribe(&[(PRESENCES, 1)]);
        assert!(
            matches!(subscribed.last(), Some(Seen::SubAck(..))),
            "round {round}"
        );
        if round % 3 == 0 {
            party.send(DISCONNECT);
        }
        drop(party);
        if round % 20 == 0 {
            assert_eq!(witness.ping(), [Seen::PingResp], "round {round}");
        }
    }
    realm.still_serves(&mut witness);
}

/// E. A device that connects again while its old connection is half open: the will of the new one was published at once,
/// and none when it died.
#[test]
fn e_the_will_of_the_old_connection_and_not_of_the_new_one() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.controller);
    witness.subscribe(&[(PRESENCE, 1)]);
    let id = realm.device.id();
    let connect = |text| {
        realm.connect_with(
            &realm.device,
            &Connect::new(&id).with_will(PRESENCE, text, 1, true),
        )
    };
    let _old = connect("old");
    let mut new = connect("new");
    new.publish(PRESENCE, "online", 1, true);
    let mut heard = || match witness.next() {
        Seen::Publish(heard) => heard.payload,
        other => other.to_string(),
    };
    assert_eq!([heard(), heard()], ["old", "online"]);
    assert_eq!(new.ping(), [Seen::PingResp]);
    drop(new);
    assert_eq!(heard(), "new");
    realm.still_serves(&mut realm.connect(&realm.other));
}

/// F. Sockets that say nothing, or stop in the middle: nobody else could connect while they stayed.
#[test]
fn f_silent_sockets() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.device);
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", realm.world.broker_port())).unwrap();
        if number % 2 == 1 {
            socket
                .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                .unwrap();
        }
        silent.push(socket);
    }
    let mut half = realm.dial(&realm.other);
    half.send(b"\x10\x20\x00\x04MQ");
    let watch = Stopwatch::start();
    realm.still_serves(&mut witness);
    let took = watch.elapsed();
    // Less than the ten seconds after which the silent ones are closed.
    assert!(took < Duration::from_secs(9), "{took:?}");
    println!("200 silent sockets: two newcomers in {took:?}");
}

/// G. Packets that only a server sends, and those of MQTT 5, as the first and later: `unreachable` was reached.
#[test]
fn g_packets_that_only_a_server_sends() {
    let realm = Realm::start();
    let mut witness = realm.connect(&realm.device);
    let packets: &[&[u8]] = &[
        b"\x20\x02\x00\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x90\x03\x00\x01\x00",
        b"\x90\x04\x00\x01\x00\x00",
        b"\xb0\x02\x00\x01",
        b"\xb0\x04\x00\x01\x00\x00",
        b"\xd0\x00",
        b"\x50\x02\x00\x01",
        b"\x62\x02\x00\x01",
        b"\x70\x02\x00\x01",
        b"\xf0\x00",
        b"\xf0\x02\x00\x00",
        b"\xe0\x02\x00\x00",
        b"\x00\x00",
    ];
    for packet in packets {
        for first in [true, false] {
            let mut party = if first {
                realm.dial(&realm.other)
            } else {
                realm.connect(&realm.other)
            };
            party.send(packet);
            assert_eq!(
                party.until(|_| false),
                [Seen::Closed],
                "{packet:02x?} {first}"
            );
        }
    }
    realm.still_serves(&mut witness);
    let order = realm
        .connect(&realm.controller)
        .publish(ORDER, "x", 1, false);
    assert!(matches!(order[..], [Seen::PubAck(_)]), "{order:?}");
}
