//! What is written down about a refusal.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::Limits;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::raw::Raw;
use crate::world::{Authority, Identity, World};

const DEVICE: &str = "333.hula.atlas";

/// One line each, with device, address, what it wanted and by which rule not.
#[tokio::test]
async fn refusals_are_written_down() {
    let lines = Lines::default();
    let _guard = lines.keep();
    let world = World::start();
    let mut device = world.client(DEVICE).await;
    device.subscribe("#", QoS::AtLeastOnce).await;
    device
        .publish_unanswered("a\nforged line", QoS::AtLeastOnce, false, "secret")
        .await;
    device.closed().await;
    let text = lines.text();
    let refused: Vec<_> = text
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    let [subscribe, publish] = refused[..] else {
        panic!("{text}")
    };
    for (line, action, resource) in [
        (subscribe, "iot:Subscribe", r##""#""##),
        (publish, "iot:Publish", r#""a\nforged line""#),
    ] {
        for part in [
            DEVICE,
            "address=127.0.0.1:",
            action,
            resource,
            "no statement allows it",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    assert!(!text.contains("secret"));
}

/// Whoever does not even get a session: in TLS, by the certificate, by CONNECT and by a flood. One line each.
#[tokio::test]
async fn nobody_is_turned_away_without_a_line() {
    let lines = Lines::default();
    let _guard = lines.keep();
    let world = World::with(Limits {
        rate: 10,
        burst: 5,
        flood: Duration::from_millis(300),
        ..Limits::default()
    });
    let refused = |identity: Option<Identity>| {
        let tls = world.authority.client(identity.as_ref());
        async {
            // With TLS 1.3 a client learns only with its first read that it is refused.
            if let Ok(mut raw) = Raw::open(world.address, tls).await {
                raw.send(Packet::Connect(Connect::new(DEVICE))).await;
                raw.rest().await;
            }
        }
    };
    refused(None).await;
    refused(Some(Authority::new("stranger").device("1.stranger.atlas"))).await;
    refused(Some(world.authority.device("2.hula.elsewhere"))).await;
    refused(Some(world.authority.device("3.hula.atlas"))).await;
    let mut raw = world.raw("4.hula.atlas").await;
    raw.bytes(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01c")
        .await;
    raw.rest().await;
    let mut flood = world.client("5.hula.atlas").await;
    for _ in 0..100 {
        flood.bytes(b"\xc0\x00").await;
    }
    flood.rest().await;
    let text = lines.text();
    let told: Vec<_> = text
        .lines()
        .filter(|line| line.contains(": refused"))
        .collect();
    let expected: [&[&str]; 6] = [
        &["no certificate", "TLS"],
        &[r#"claimed="1.stranger.atlas""#, "TLS", "UnknownIssuer"],
        &[r#"claimed="2.hula.elsewhere""#, "another realm"],
        &["device=3.hula.atlas", "iot:Connect", "another client id"],
        &["device=4.hula.atlas", "CONNECT", "protocol level 5"],
        &["device=5.hula.atlas", "rate", "earns 10 tokens a second"],
    ];
    assert_eq!(told.len(), expected.len(), "{text}");
    for (line, parts) in told.iter().zip(expected) {
        for part in parts.iter().chain(&["address=127.0.0.1:"]) {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}

/// What has been logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// From now on all that this thread logs. The runtime of a test has one, so that this is for the broker too.
    fn keep(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
