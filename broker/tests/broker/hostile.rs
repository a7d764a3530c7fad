//! Those who do not speak MQTT, or not well. Whatever they do, the others are served.

use std::io;
use std::time::Duration;

use broker::Limits;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::raw::{Raw, kept};
use crate::world::{PATIENCE, World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";
const WITNESS: &str = "witness.hula.atlas";

/// Somebody who was there before and must not notice anything, and a newcomer who must get in.
async fn still_serves(world: &World, witness: &mut Raw) {
    witness.quiet().await;
    let mut newcomer = world.client("newcomer.hula.atlas").await;
    newcomer
        .publish(&presence("newcomer"), QoS::AtLeastOnce, true, "x")
        .await;
}

/// Sockets that say nothing, and some that stop in the middle of their handshake or CONNECT.
#[tokio::test]
async fn silent_sockets_do_not_hold_up_the_others() {
    let world = World::with(Limits {
        greeting: NEVER,
        handshakes_per_address: 400,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let _silent = silent_and_half(&world).await;
    still_serves(&world, &mut witness).await;
    assert_eq!(world.count().greetings_failed, 0);
}

#[tokio::test]
async fn silent_sockets_are_closed_when_their_time_is_over() {
    let world = World::with(Limits {
        greeting: Duration::from_secs(5),
        handshakes_per_address: 400,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let (silent, half) = silent_and_half(&world).await;
    for raw in half {
        raw.closed().await;
    }
    for mut stream in silent {
        let mut rest = Vec::new();
        let closing = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        closing.expect("a silent socket is closed").ok();
    }
    world
        .until("all are counted", |count| count.greetings_failed == 320)
        .await;
    still_serves(&world, &mut witness).await;
}

/// 300 that say nothing or begin a handshake, and 20 that begin a CONNECT.
async fn silent_and_half(world: &World) -> (Vec<TcpStream>, Vec<Raw>) {
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        if number % 3 == 1 {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        silent.push(stream);
    }
    let mut half = Vec::new();
    for _ in 0..20 {
        let mut raw = world.raw(DEVICE).await;
        raw.bytes(b"\x10\x20\x00\x04MQ").await;
        half.push(raw);
    }
    (silent, half)
}

/// One address has its share of the doorway and no more; those of other addresses do not even notice.
#[tokio::test]
async fn silent_sockets_of_one_address_do_not_hold_up_another() {
    let world = World::with(Limits {
        greeting: NEVER,
        handshakes: 8,
        handshakes_per_address: 4,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(from("127.0.0.2", &world).await);
    }
    for _ in 0..200 {
        closed_at_once(from("127.0.0.2", &world).await).await;
    }
    assert_eq!(world.count().refused_address, 200);
    still_serves(&world, &mut witness).await;
    // Exactly at the limit: one place that becomes free is one that can be taken.
    drop(silent.pop());
    world
        .until("one has left", |count| count.greetings_failed == 1)
        .await;
    silent.push(from("127.0.0.2", &world).await);
    closed_at_once(from("127.0.0.2", &world).await).await;
    for stream in &silent {
        still_open(stream);
    }
}

/// Few who say nothing and have taken all places lose one to each who comes from elsewhere. Only when everybody has one,
/// newcomers are turned away, at once, and let in again as soon as somebody leaves.
#[tokio::test]
async fn a_full_doorway_makes_room_for_those_who_have_none_of_it() {
    let world = World::with(Limits {
        greeting: NEVER,
        handshakes: 8,
        handshakes_per_address: 4,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let mut silent = Vec::new();
    for number in 0..8 {
        silent.push(from(&format!("127.0.0.{}", 2 + number % 2), &world).await);
    }
    still_serves(&world, &mut witness).await;
    assert_eq!(world.count().refused_full, 1);
    closed_at_once(silent.remove(0)).await;
    for stream in &silent {
        still_open(stream);
    }
    for number in 10..20 {
        silent.push(from(&format!("127.0.0.{number}"), &world).await);
    }
    world
        .until("the doorway is full of others", |count| {
            count.refused_full + count.greetings_failed == 10
        })
        .await;
    closed_at_once(from("127.0.0.30", &world).await).await;
    witness.quiet().await;
    drop(silent.pop());
    drop(silent.drain(..));
    world
        .until("they have left", |count| count.greetings_failed == 8)
        .await;
    still_serves(&world, &mut witness).await;
}

/// A connection from another address of this machine.
async fn from(address: &str, world: &World) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    socket.connect(world.address).await.unwrap()
}

async fn closed_at_once(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let closing = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    closing.expect("it is closed at once").ok();
    assert_eq!(rest, b"");
}

#[track_caller]
fn still_open(stream: &TcpStream) {
    let error = stream.try_read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

/// No greeting's deadline is over while a test runs: whoever is served, or closed, has not waited for it.
const NEVER: Duration = Duration::from_mins(5);

#[tokio::test]
async fn what_is_no_tls_is_closed() {
    let world = World::start();
    for bytes in [
        &b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("it is closed")
            .ok();
    }
    world.client(DEVICE).await.quiet().await;
}

/// Each on a connection of its own, after CONNECT; MQTT-3.1.0-2, MQTT-2.2.2-2, MQTT-4.7.1-2 and others.
#[tokio::test]
async fn each_violation_ends_its_connection_and_no_other() {
    let world = World::start();
    let mut witness = world.client(WITNESS).await;
    let violations: &[&[u8]] = &[
        b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x0a\x00\x0e333.hula.atlas", // a second CONNECT
        b"\x20\x02\x00\x00",                                           // CONNACK
        b"\x90\x03\x00\x01\x00",                                       // SUBACK
        b"\xb0\x02\x00\x01",                                           // UNSUBACK
        b"\xd0\x00",                                                   // PINGRESP
        b"\x50\x02\x00\x01",                                           // PUBREC
        b"\x62\x02\x00\x01",                                           // PUBREL
        b"\x70\x02\x00\x01",                                           // PUBCOMP
        b"\x00\x00",                                                   // no packet
        b"\xf0\x00",                                                   // AUTH of MQTT 5
        b"\xff\xff\xff\xff\xff",                                       //
        b"\x30\xff\xff\xff\x7f",                                       // 256 MB are announced
        b"\x30\xff\xff\xff\xff\x7f",                                   // a length of five bytes
        b"\x80\x06\x00\x01\x00\x01a\x00", // SUBSCRIBE with the flags of 3.1
        b"\x82\x02\x00\x01",              // SUBSCRIBE without filters
        b"\x82\x0a\x00\x01\x00\x05a/#/b\x00", //
        b"\x82\x09\x00\x01\x00\x04a/b#\x00", //
        b"\x82\x05\x00\x01\x00\x00\x00",  // an empty filter
        b"\xa2\x02\x00\x01",              // UNSUBSCRIBE without filters
        b"\x30\x0a\x00\x08wild/+/x",      //
        b"\x30\x03\x00\x01\x00",          // U+0000
        b"\x30\x04\x00\x02\xc3\x28",      // no UTF-8
        b"\x38\x03\x00\x01a",             // DUP with QoS 0
        b"\x36\x05\x00\x01a\x00\x01",     // QoS 3
        b"\x32\x05\x00\x01a\x00\x00",     // identifier 0
        b"\x30\x06\x00\x04\xc3\xa9/x",    // é/x: well formed, and nobody's
    ];
    for bytes in violations {
        let mut client = world.client(DEVICE).await;
        client.bytes(bytes).await;
        assert_eq!(client.rest().await, b"", "{bytes:02x?}");
        witness.quiet().await;
    }
    still_serves(&world, &mut witness).await;
    world
        .until("all are counted", |count| {
            count.malformed == violations.len() as u64 - 1
        })
        .await;
}

#[tokio::test]
async fn a_payload_over_the_cap_ends_its_connection() {
    let world = World::start();
    let mut device = world.client(DEVICE).await;
    device
        .publish(
            &presence(333),
            QoS::AtLeastOnce,
            true,
            &"x".repeat(16 * 1024),
        )
        .await;
    device
        .publish_unanswered(
            &presence(333),
            QoS::AtLeastOnce,
            true,
            &"x".repeat(16 * 1024 + 1),
        )
        .await;
    device.closed().await;
    assert_eq!(world.count().published, 1);
}

#[tokio::test]
async fn other_versions_are_told_in_their_own_words() {
    let world = World::start();
    let id = "\x00\x0e333.hula.atlas";
    let v5 = format!("\x10\x20\x00\x04MQTT\x05\x02\x00\x0a\x05\x11\x00\x00\x00\x0a{id}");
    let v31 = format!("\x10\x1c\x00\x06MQIsdp\x03\x02\x00\x0a{id}");
    let v6 = format!("\x10\x1a\x00\x04MQTT\x06\x02\x00\x0a{id}");
    for (connect, answer) in [
        (v5, &b"\x20\x03\x00\x84\x00"[..]),
        (v31, b"\x20\x02\x00\x01"),
        (v6, b"\x20\x02\x00\x01"),
    ] {
        let mut client = world.raw(DEVICE).await;
        client.bytes(connect.as_bytes()).await;
        assert_eq!(client.rest().await, answer);
    }
    assert_eq!(world.count().refused_versions, 3);
}

/// MQTT-3.1.0-1, MQTT-3.1.4-1: nothing is answered to what is no CONNECT.
#[tokio::test]
async fn the_first_packet_is_a_connect() {
    let world = World::start();
    for bytes in [
        &b"\xc0\x00"[..],
        b"\x30\x04\x00\x01ax",
        b"\x11\x1a\x00\x04MQTT\x04\x02\x00\x0a\x00\x0e333.hula.atlas",
        b"\x10\x1a\x00\x04MQTX\x04\x02\x00\x0a\x00\x0e333.hula.atlas",
        b"\x10\x1a\x00\x04MQTT\x04\x03\x00\x0a\x00\x0e333.hula.atlas",
        b"\x10\x1a\x00\x04MQTT\x04\x42\x00\x0a\x00\x0e333.hula.atlas",
        b"\x10\xff\xff\xff\x7f\x00\x04MQTT",
    ] {
        let mut client = world.raw(DEVICE).await;
        client.bytes(bytes).await;
        assert_eq!(client.rest().await, b"", "{bytes:02x?}");
    }
    world.client(DEVICE).await.quiet().await;
}

/// MQTT-3.1.2.4: packets may follow the CONNECT before its answer.
#[tokio::test]
async fn a_client_need_not_wait_for_its_connack() {
    let world = World::start();
    let mut client = world.raw(DEVICE).await;
    client
        .bytes(b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x0a\x00\x0e333.hula.atlas\xc0\x00\xe0\x00")
        .await;
    assert_eq!(client.rest().await, b"\x20\x02\x00\x00\xd0\x00");
}

/// Twice the same client id that cannot be one; the second made a well-known broker refuse everybody for ever.
#[tokio::test]
async fn impossible_client_ids_twice() {
    let world = World::start();
    let mut witness = world.client(WITNESS).await;
    for id in ["a/b", "a/b", "+", "+", "#", "$", "é", "\u{1f600}"] {
        let mut client = world.raw(DEVICE).await;
        assert_eq!(
            client.connect_with(Connect::new(id)).await,
            Err(ConnectReturnCode::BadClientId)
        );
    }
    still_serves(&world, &mut witness).await;
}

/// A subscriber that does not read is taken over while much waits for it, its successor leaves, and then it reads.
#[tokio::test]
async fn a_stalled_subscriber_that_was_taken_over() {
    for clean in [true, false] {
        let world = World::start();
        let mut witness = world.client(WITNESS).await;
        let mut device = world.client(DEVICE).await;
        let connect = || {
            if clean {
                Connect::new(CONTROLLER)
            } else {
                kept(CONTROLLER)
            }
        };
        let mut stalled = world.raw(CONTROLLER).await;
        stalled.connect_with(connect()).await.unwrap();
        stalled.subscribe(&presence(333), QoS::AtLeastOnce).await;
        for _ in 0..1000 {
            device
                .publish(&presence(333), QoS::AtLeastOnce, false, &"x".repeat(1000))
                .await;
        }
        let mut successor = world.raw(CONTROLLER).await;
        assert_eq!(successor.connect_with(connect()).await, Ok(!clean));
        successor.send(Packet::Disconnect).await;
        drop(successor.rest().await);
        stalled.rest().await;
        still_serves(&world, &mut witness).await;
        let mut again = world.raw(CONTROLLER).await;
        assert_eq!(again.connect_with(connect()).await, Ok(!clean));
        if clean {
            again.subscribe(&presence(333), QoS::AtLeastOnce).await;
        }
        device
            .publish(&presence(333), QoS::AtLeastOnce, false, "end")
            .await;
        while again.text().await != "end" {}
    }
}

/// One after the other, each next at once: none is dropped for what another one did.
#[tokio::test]
async fn churn_drops_nobody() {
    let world = World::start();
    let mut witness = world.client(WITNESS).await;
    for number in 0..500 {
        let id = format!("d{}.hula.atlas", number % 50);
        let mut client = world.client(&id).await;
        client
            .subscribe(
                &format!("atlas/hula/d{}/tunnel/control/+", number % 50),
                QoS::AtLeastOnce,
            )
            .await;
        client
            .publish(
                &presence(format!("d{}", number % 50)),
                QoS::AtLeastOnce,
                true,
                "x",
            )
            .await;
        if number % 2 == 0 {
            client.send(Packet::Disconnect).await;
        }
        drop(client);
        if number % 10 == 0 {
            witness.quiet().await;
        }
    }
    witness.quiet().await;
    world
        .until("all have left", |count| {
            count.connected == 1 && count.sessions == 1
        })
        .await;
    assert_eq!(
        (world.count().handshakes, world.count().retained_messages),
        (501, 50)
    );
}

/// Well-formed packets, changed at random places, on many connections.
#[tokio::test]
async fn mutated_packets_harm_nobody() {
    // One device connects hundreds of times.
    let world = World::with(Limits {
        burst: 1_000_000,
        ..Limits::default()
    });
    let mut witness = world.client(WITNESS).await;
    let good: [&[u8]; 6] = [
        b"\x82\x24\x00\x01\x00\x1fatlas/hula/333/tunnel/control/+\x01",
        b"\x33\x24\x00\x1eatlas/hula/333/tunnel/presence\x00\x01xx",
        b"\xa2\x23\x00\x01\x00\x1fatlas/hula/333/tunnel/control/+",
        b"\x40\x02\x00\x01",
        b"\xc0\x00",
        b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x0a\x00\x0e333.hula.atlas",
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(8) {
            bytes.extend_from_slice(good[random.below(good.len())]);
        }
        for _ in 0..=random.below(4) {
            let place = random.below(bytes.len());
            bytes[place] = u8::try_from(random.below(256)).unwrap();
        }
        // Half of them instead of the CONNECT.
        let mut client = if round % 2 == 0 {
            world.client(DEVICE).await
        } else {
            world.raw(DEVICE).await
        };
        client.bytes(&bytes).await;
        if round % 20 == 0 {
            witness.quiet().await;
        }
    }
    still_serves(&world, &mut witness).await;
    world
        .until("all have left", |count| count.connected <= 2)
        .await;
}

/// xorshift64: the same bytes in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
