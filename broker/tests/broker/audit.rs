//! What is written down about a refusal.

use std::io;
use std::sync::{Arc, Mutex};

use rumqttc::mqttbytes::QoS;
use tracing_subscriber::fmt::MakeWriter;

use crate::world::World;

const DEVICE: &str = "333.hula.atlas";

/// One line each, with device, address, what it wanted and by which rule not.
#[tokio::test]
async fn refusals_are_written_down() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    // The runtime of a test has one thread, so that this is for the broker too.
    let _guard = tracing::subscriber::set_default(subscriber);
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

/// What has been logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
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
