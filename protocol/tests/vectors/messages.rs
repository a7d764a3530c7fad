//! The vectors of JSON payloads: fenced blocks with the message and what becomes of it.

use std::collections::BTreeMap;

use protocol::{
    DecodeError, Epoch, Forward, Label, Lifetime, Order, Presence, RefusalCode, Reply, ReplyBody,
    limits,
};
use serde_json::Value;

use crate::lease;
use crate::page::blocks;

#[test]
fn orders() {
    let ssh: Label = "ssh".parse().unwrap();
    let web: Label = "web".parse().unwrap();
    let first = lease("000102030405060708090a0b0c0d0e0f");
    let open = Order::Open {
        lease: first,
        services: vec![ssh.clone()],
        issued: 1_795_305_600,
        lifetime: Lifetime::from_secs(60).unwrap(),
    };
    let two = Order::Open {
        lease: lease("ffffffffffffffffffffffffffffffff"),
        services: vec![ssh, web],
        issued: 0,
        lifetime: Lifetime::from_secs(3600).unwrap(),
    };
    let port = Order::Open {
        lease: first,
        services: vec!["8080".parse().unwrap()],
        issued: 1_795_305_600,
        lifetime: Lifetime::from_secs(60).unwrap(),
    };
    let named = BTreeMap::from([
        ("open", open),
        ("open-two", two),
        ("open-port", port),
        ("close", Order::Close { lease: Some(first) }),
        ("close-all", Order::Close { lease: None }),
    ]);
    run_messages(
        "order",
        &named,
        &[],
        [5, 3, 23],
        Order::decode,
        Order::encode,
    );
}

#[test]
fn replies() {
    let first = Some(lease("000102030405060708090a0b0c0d0e0f"));
    let reply = |lease, body| Reply { lease, body };
    let refused = |code, text: &str| ReplyBody::Refused {
        code,
        text: text.to_owned(),
    };
    let opened = |proxy: &str, forwards: &[(&str, u16)], host_keys: &[&str]| ReplyBody::Opened {
        proxy: proxy.to_owned(),
        forwards: forwards
            .iter()
            .map(|&(service, port)| Forward {
                service: service.parse().unwrap(),
                port,
            })
            .collect(),
        host_keys: host_keys.iter().map(|&key| key.to_owned()).collect(),
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ";
    let stale = "the order was issued 2 hours ago by this computer's clock: set one of the clocks";
    let named = BTreeMap::from([
        (
            "opened",
            reply(
                first,
                opened("proxy.example.org:2222", &[("ssh", 61333)], &[key]),
            ),
        ),
        (
            "opened-two",
            reply(
                first,
                opened("[2001:db8::1]:22", &[("ssh", 1), ("web", 65535)], &[]),
            ),
        ),
        ("refused", reply(first, refused(RefusalCode::Stale, stale))),
        (
            "unsupported",
            reply(
                None,
                refused(RefusalCode::Unsupported, "only version 1 is spoken here"),
            ),
        ),
        ("closed", reply(first, ReplyBody::Closed)),
        ("closed-all", reply(None, ReplyBody::Closed)),
    ]);
    let read_only = [(
        "refused-other",
        reply(None, refused(RefusalCode::Other, "call somebody")),
    )];
    run_messages(
        "reply",
        &named,
        &read_only,
        [6, 3, 14],
        Reply::decode,
        Reply::encode,
    );
}

#[test]
fn presences() {
    let presence = |online, since, lost| Presence {
        online,
        since,
        lost,
        version: "0.1.0".to_owned(),
        epoch: Epoch(1_795_305_600_123),
        proxy: None,
        controllers: Vec::new(),
    };
    let used = Presence {
        proxy: Some("proxy.example.org:2222".to_owned()),
        controllers: vec![
            "controller-a".parse().unwrap(),
            "controller-b".parse().unwrap(),
        ],
        ..presence(true, 1_795_305_600, false)
    };
    let named = BTreeMap::from([
        ("online", presence(true, 1_795_305_600, false)),
        ("ended", presence(false, 1_795_305_660, false)),
        ("will", presence(false, 1_795_305_600, true)),
        ("used", used),
    ]);
    run_messages(
        "presence",
        &named,
        &[],
        [4, 1, 9],
        Presence::decode,
        Presence::encode,
    );
}

#[test]
fn a_payload_over_the_cap_is_refused_unread() {
    let full = |length: usize| {
        let mut payload = br#"{"v":1,"order":"close"}"#.to_vec();
        payload.resize(length, b' ');
        payload
    };
    assert!(Order::decode(&full(limits::MAX_PAYLOAD)).is_ok());
    for payload in [
        full(limits::MAX_PAYLOAD + 1),
        vec![0; limits::MAX_PAYLOAD + 1],
    ] {
        let refusals = [
            Order::decode(&payload).unwrap_err(),
            Reply::decode(&payload).unwrap_err(),
            Presence::decode(&payload).unwrap_err(),
        ];
        assert!(
            refusals.iter().all(|r| refusal(r) == "too-large"),
            "{refusals:?}"
        );
    }
}

/// Runs the blocks of one kind: `name=` reads as the value of that name and is what it encodes to, `means=` reads as it,
/// `refused=` is refused for that reason. `least` says how many of each the page has at least.
fn run_messages<T: Clone + std::fmt::Debug + PartialEq>(
    kind: &str,
    named: &BTreeMap<&str, T>,
    read_only: &[(&str, T)],
    least: [usize; 3],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let mut known: BTreeMap<&str, T> = named.clone();
    known.extend(read_only.iter().cloned());
    let mut seen = [0; 3];
    let mut canonical = Vec::new();
    for block in blocks(kind) {
        let read = decode(block.text.as_bytes());
        let attribute = |key: &str| block.attributes.get(key).map(String::as_str);
        if let Some(name) = attribute("name") {
            seen[0] += 1;
            let value = &known[name];
            assert_eq!(&read.unwrap(), value, "line {}", block.line);
            let encoded: Value = serde_json::from_slice(&encode(value)).unwrap();
            let written: Value = serde_json::from_str(&block.text).unwrap();
            assert_eq!(encoded, written, "line {}", block.line);
            canonical.push(name.to_owned());
        } else if let Some(name) = attribute("means") {
            seen[1] += 1;
            assert_eq!(read.unwrap(), known[name], "line {}", block.line);
        } else if let Some(reason) = attribute("refused") {
            seen[2] += 1;
            let Err(error) = read else {
                panic!("line {}: taken for {read:?}", block.line);
            };
            assert_eq!(refusal(&error), reason, "line {}: {error:?}", block.line);
            assert_eq!(
                error.lease(),
                attribute("lease").map(lease),
                "line {}: {error:?}",
                block.line
            );
        } else {
            panic!("line {}: a vector without a result", block.line);
        }
    }
    canonical.sort();
    assert!(
        named.keys().eq(canonical.iter()),
        "each named value stands in the page once: {canonical:?}"
    );
    assert!(
        seen.iter().zip(least).all(|(seen, least)| *seen >= least),
        "{kind}: found {seen:?} vectors of [named, lenient, refused], expected {least:?}"
    );
}

fn refusal(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooLarge { .. } => "too-large",
        DecodeError::NotAMessage(_) => "not-a-message",
        DecodeError::Version { .. } => "version",
        DecodeError::Unknown { .. } => "unknown",
        DecodeError::Field { .. } => "field",
        other => panic!("{other:?} has no word in the page"),
    }
}
