//! What the log says of those who are not let in, or not any longer, word by word.

use std::fmt::Write;
use std::io;

use bytes::BytesMut;
use daemon::report::{Report, one_line};
use protocol::limits::{MAX_PAYLOAD, MAX_TOPIC, MAX_TOPIC_LEVELS};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
use rustls_pki_types::UnixTime;

use crate::bus::{BusLost, OfferError};
use crate::config::Pem;
use crate::connect::{Connect, ConnectError, is_connect};
use crate::gate::Refusal;
use crate::greeting::GreetError;
use crate::hub::{AttachError, PublishError};
use crate::limits::MAX_CHAIN;
use crate::packet::{frame, is_request};
use crate::peer::{Peer, PeerError};
use crate::retained::RetainedFull;
use crate::seat::{Cut, SubscribeError};
use crate::store::{CommitError, ContentError, StoreError};
use crate::topic::{TopicFilter, TopicName};
use crate::trust::tests::authority;
use crate::trust::{self, Trust};
use crate::{BindError, CheckError, PoliciesError};

/// A name and a line each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn std::error::Error) {
        writeln!(self.0, "{name}\n    {}", one_line(error)).unwrap();
    }
}

/// After CONNECT: these are the causes of the end of a connection.
#[test]
fn packets() {
    let mut page = Page::default();
    let payload = vec![b'x'; MAX_PAYLOAD + 1];
    let publish = |first: u8, body: &[u8]| {
        let mut packet = vec![first];
        let mut length = body.len();
        while length >= 0x80 {
            packet.push(u8::try_from(length % 0x80).unwrap() | 0x80);
            length /= 0x80;
        }
        packet.push(u8::try_from(length).unwrap());
        [&packet, body].concat()
    };
    let filters = [b"\x00\x01".to_vec(), b"\x00\x01a\x00".repeat(9)].concat();
    for (name, packet) in [
        ("a second CONNECT", publish(0x10, b"")),
        ("what only a server sends", publish(0xb0, b"\0\x01")),
        ("AUTH of MQTT 5", publish(0xf0, b"")),
        ("a packet of 256 MiB", b"\x30\xff\xff\xff\x7f".to_vec()),
        (
            "a length that does not end",
            b"\x30\xff\xff\xff\xff\x7f".to_vec(),
        ),
        ("DUP with QoS 0", publish(0x38, b"\0\x01a")),
        ("QoS 2", publish(0x34, b"\0\x01a\0\x01")),
        ("QoS 3", publish(0x36, b"\0\x01a\0\x01")),
        ("a wildcard in a topic", publish(0x30, b"\0\x01#")),
        ("an empty topic", publish(0x30, b"\0\0")),
        ("U+0000 in a topic", publish(0x30, b"\0\x01\0")),
        ("a topic that is no text", publish(0x30, b"\0\x01\xff")),
        ("a topic longer than its packet", publish(0x30, b"\0\x09a")),
        (
            "a message that is too large",
            publish(0x30, &[b"\0\x01a", &payload[..]].concat()),
        ),
        ("SUBSCRIBE to nothing", publish(0x82, b"\0\x01")),
        (
            "SUBSCRIBE without an identifier",
            publish(0x82, b"\0\0\0\x01a\0"),
        ),
        (
            "SUBSCRIBE with other options",
            publish(0x82, b"\0\x01\0\x01a\x04"),
        ),
        ("SUBSCRIBE to nine", publish(0x82, &filters)),
        ("UNSUBSCRIBE from nothing", publish(0xa2, b"\0\x01")),
        ("PINGREQ with a body", publish(0xc0, b"\0")),
    ] {
        let request = frame(&mut BytesMut::from(&packet[..]), is_request)
            .and_then(|frame| frame.expect("a whole packet").request());
        page.add(name, &request.map(drop).unwrap_err());
    }
    insta::assert_snapshot!("packets", page.0);
}

/// What is taken from a peer's text is judged by these; a filter that nobody can have is refused alone.
#[test]
fn topics() {
    let mut page = Page::default();
    let (long, deep) = ("a".repeat(MAX_TOPIC + 1), "/".repeat(MAX_TOPIC_LEVELS));
    for (name, topic) in [
        ("none", ""),
        ("U+0000", "a\0"),
        ("a wildcard", "a/+"),
        ("too long", &long),
        ("too deep", &deep),
    ] {
        page.add(name, &TopicName::parse(topic).unwrap_err());
    }
    page.add(
        "a wildcard not at the end",
        &TopicFilter::parse("#/a").unwrap_err(),
    );
    insta::assert_snapshot!("topics", page.0);
}

/// A first packet that cannot be served, as the line about its device says it.
#[test]
fn first_packets() {
    let mut page = Page::default();
    for (name, body) in [
        ("MQTT 5", &b"\0\x04MQTT\x05\x02\0\x0a\0\0\0\x01c"[..]),
        ("MQTT 3.1", b"\0\x06MQIsdp\x03\x02\0\x0a\0\x01c"),
        ("no MQTT", b"\0\x04HTTP\x04\x02\0\x0a\0\x01c"),
        ("reserved flags", b"\0\x04MQTT\x04\x03\0\x0a\0\x01c"),
        ("more than its fields", b"\0\x04MQTT\x04\x02\0\x0a\0\x01cX"),
        (
            "a client id that is no text",
            b"\0\x04MQTT\x04\x02\0\x0a\0\x01\xff",
        ),
        (
            "a will of QoS 2",
            b"\0\x04MQTT\x04\x16\0\x0a\0\x01c\0\x01t\0\x01w",
        ),
        (
            "a will for many",
            b"\0\x04MQTT\x04\x06\0\x0a\0\x01c\0\x01#\0\x01w",
        ),
    ] {
        page.add(name, &connect(body).map(drop).unwrap_err());
    }
    let topic = "/".repeat(MAX_TOPIC_LEVELS);
    let length = u8::try_from(topic.len()).unwrap();
    let will = [
        &b"\0\x04MQTT\x04\x06\0\x0a\0\x01c\0"[..],
        &[length],
        topic.as_bytes(),
        b"\0\x01w",
    ];
    page.add(
        "a will too deep",
        &connect(&will.concat()).map(drop).unwrap_err(),
    );
    insta::assert_snapshot!("first-packets", page.0);
}

fn connect(body: &[u8]) -> Result<Connect, ConnectError> {
    let length = u8::try_from(body.len()).unwrap();
    let bytes = [&[0x10, length][..], body].concat();
    let frame = frame(&mut BytesMut::from(&bytes[..]), is_connect).unwrap();
    Connect::parse(&frame.expect("a whole packet"))
}

/// Certificates that an authority has signed, and that are no device's of the realm all the same.
#[test]
fn certificates() {
    let mut page = Page::default();
    let good = ["333.hula.atlas.example.org", "hula", "333"];
    let text = |value: &str| DnValue::from(value);
    let names = |[cn, o, ou]: [&str; 3]| {
        vec![
            (DnType::CommonName, text(cn)),
            (DnType::OrganizationName, text(o)),
            (DnType::OrganizationalUnitName, text(ou)),
        ]
    };
    let mut unread = names(good);
    unread[0].1 = DnValue::BmpString("333.hula.atlas.example.org".try_into().unwrap());
    for (name, subject) in [
        ("no OU", names(good)[..2].to_vec()),
        ("a common name that cannot be read", unread),
        (
            "without the suffix",
            names(["333.hula.atlas", "hula", "333"]),
        ),
        (
            "a wildcard",
            names(["+.hula.atlas.example.org", "hula", "+"]),
        ),
        ("another system's O", names([good[0], "lava", "333"])),
        (
            "another realm",
            names(["333.hula.lava.example.org", "hula", "333"]),
        ),
    ] {
        page.add(name, &peer(subject).unwrap_err());
    }
    let none = Peer::of_certificate(
        b"nothing",
        "127.0.0.1:1".parse().unwrap(),
        &"atlas".parse().unwrap(),
        &"".parse().unwrap(),
    );
    page.add("no certificate", &none.unwrap_err());
    page.add(
        "a name for which nothing is decided",
        &PeerError::Subject(policies::Subject::new("").unwrap_err()),
    );
    let authority = authority();
    let trust = Trust::load(&Pem::Text(authority.pem().into()), None, None).unwrap();
    let others = vec![authority.der().clone(); MAX_CHAIN + 1];
    let long = trust.verify(authority.der(), &others, UnixTime::now());
    let rule = trust::rule(&long.unwrap_err());
    writeln!(page.0, "too long a chain\n    {rule}").unwrap();
    insta::assert_snapshot!("certificates", page.0);
}

fn peer(subject: Vec<(DnType, DnValue)>) -> Result<Peer, PeerError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind, value);
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Peer::of_certificate(
        certificate.der(),
        "127.0.0.1:1".parse().unwrap(),
        &"atlas".parse().unwrap(),
        &".example.org".parse().unwrap(),
    )
}

/// Why nobody has come in, or has no seat, or cannot be written down.
#[test]
fn refusals() {
    let mut page = Page::default();
    let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
    let rule = || Refusal::new("iot:Connect", "333", "no statement allows it");
    for (name, error) in [
        ("no TLS", GreetError::Handshake(gone())),
        ("broken off", GreetError::Lost(gone())),
        ("too many strangers", GreetError::Crowded),
        ("says nothing", GreetError::Late),
        ("goes again", GreetError::Left),
        (
            "speaks otherwise",
            GreetError::Connect(connect(b"\0\x04MQTT\x05").map(drop).unwrap_err()),
        ),
        ("refused", GreetError::Refused),
    ] {
        page.add(name, &error);
    }
    for (name, error) in [
        ("a broker that ends", AttachError::Draining),
        ("no place", AttachError::Full),
        ("policies of now", AttachError::Refused(rule())),
        ("a will too many", AttachError::Will(RetainedFull)),
    ] {
        page.add(name, &error);
    }
    page.add("a message too many", &PublishError::Full(RetainedFull));
    for (name, error) in [
        ("a filter of before", SubscribeError::Refused(rule())),
        ("a filter too many", SubscribeError::TooMany),
        ("a filter too late", SubscribeError::Cut(Cut::TakenOver)),
    ] {
        page.add(name, &error);
    }
    for (name, error) in [
        ("a bus that is full", OfferError::Full),
        ("a bus that has ended", OfferError::Lost(BusLost)),
    ] {
        page.add(name, &error);
    }
    for (name, error) in [
        ("another store", CommitError::Foreign),
        (
            "a store that has gone",
            CommitError::Reopen(StoreError::Content {
                path: "broker/store/broker.redb".into(),
                source: ContentError::Empty,
            }),
        ),
        (
            "a disk that is full",
            CommitError::Write(Box::new(redb::Error::Io(io::ErrorKind::StorageFull.into()))),
        ),
    ] {
        page.add(name, &error);
    }
    insta::assert_snapshot!("refusals", page.0);
}

/// What a start says of a realm that has no such name or address, and a reload of a document that has gone meanwhile.
#[test]
fn what_hardly_happens() {
    let mut page = String::new();
    let mut add = |name: &str, error: CheckError| {
        let report = Report::new(&error, error.hint().as_deref()).to_string();
        writeln!(page, "# {name}\n{report}\n").unwrap();
    };
    let host = "under score.example".to_owned();
    let source = rustls_pki_types::DnsName::try_from(host.clone()).unwrap_err();
    add("no host", CheckError::Host { host, source });
    let path = "atlas/policies/tunnel.target.json".into();
    let gone = BindError::Policies(PoliciesError::Gone { path });
    add("a document that has gone", gone.into());
    let topic = BindError::Roster(TopicName::parse("a/+").unwrap_err());
    add("no topic", topic.into());
    insta::assert_snapshot!("what-hardly-happens", page);
}
