//! Clients that we did not write.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::world::{Identity, PATIENCE, World, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

fn rumqttc_client(world: &World, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "localhost", world.address.port());
    options.set_keep_alive(Duration::from_secs(5));
    let tls = world.authority.client(Some(&world.authority.device(id)));
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    AsyncClient::new(options, 10)
}

/// Polls until a packet is as wished.
async fn poll<T>(events: &mut EventLoop, mut wished: impl FnMut(Packet) -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.unwrap()
                && let Some(found) = wished(packet)
            {
                return found;
            }
        }
    };
    timeout(PATIENCE, polling).await.expect("the packet comes")
}

#[tokio::test]
async fn rumqttc_orders_and_replies() {
    let world = World::start();
    let (device, mut at_device) = rumqttc_client(&world, DEVICE);
    let (controller, mut at_controller) = rumqttc_client(&world, CONTROLLER);
    device
        .subscribe("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce)
        .await
        .unwrap();
    poll(&mut at_device, |packet| {
        matches!(packet, Packet::SubAck(_)).then_some(())
    })
    .await;
    controller
        .subscribe("atlas/hula/controller-a/tunnel/reply/+", QoS::AtLeastOnce)
        .await
        .unwrap();
    poll(&mut at_controller, |packet| {
        matches!(packet, Packet::SubAck(_)).then_some(())
    })
    .await;
    let message = |packet| match packet {
        Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
        _ => None,
    };
    let acknowledged = |packet| matches!(packet, Packet::PubAck(_)).then_some(());
    controller
        .publish(
            "atlas/hula/333/tunnel/control/controller-a",
            QoS::AtLeastOnce,
            false,
            "open",
        )
        .await
        .unwrap();
    poll(&mut at_controller, acknowledged).await;
    assert_eq!(poll(&mut at_device, message).await, "open");
    device
        .publish(
            "atlas/hula/controller-a/tunnel/reply/333",
            QoS::AtLeastOnce,
            false,
            "opened",
        )
        .await
        .unwrap();
    poll(&mut at_device, acknowledged).await;
    assert_eq!(poll(&mut at_controller, message).await, "opened");
}

/// The options with which mosquitto's programs reach the broker as this device.
fn mosquitto(program: &str, world: &World, folder: &Path, id: &str) -> Command {
    let Identity { certificate, key } = world.authority.device(id);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut command = Command::new(program);
    command
        .args([
            "-h",
            "localhost",
            "-V",
            "mqttv311",
            "-i",
            id,
            "-q",
            "1",
            "-p",
        ])
        .arg(world.address.port().to_string())
        .arg("--cafile")
        .arg(write("ca.pem", &world.authority.pem()))
        .arg("--cert")
        .arg(write(&format!("{id}.pem"), &certificate))
        .arg("--key")
        .arg(write(&format!("{id}.key"), &key))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// mosquitto's own clients against us; part of the test set-up's packages, so that it is not skipped when they are missing.
#[tokio::test]
async fn mosquitto_publishes_and_subscribes() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    let publish = async |id: &str, topic: String, text: &str| -> Output {
        let mut command = mosquitto("mosquitto_pub", &world, folder.path(), id);
        let running = command.args(["-r", "-t", &topic, "-m", text]).output();
        timeout(PATIENCE, running).await.expect("it ends").unwrap()
    };
    let output = publish(DEVICE, presence(333), "zero").await;
    assert!(output.status.success(), "{output:?}");
    let mut subscriber = mosquitto("mosquitto_sub", &world, folder.path(), CONTROLLER)
        .args(["-t", &presence("+"), "-F", "%r %q %t %p", "-C", "3"])
        .spawn()
        .expect("mosquitto-clients is installed");
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await;
        line.expect("a line").unwrap().unwrap()
    };
    // With the retained one comes the subscription's beginning.
    assert_eq!(next().await, format!("1 1 {} zero", presence(333)));
    for text in ["one", "two"] {
        let output = publish(DEVICE, presence(333), text).await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(next().await, format!("0 1 {} {text}", presence(333)));
    }
    assert!(
        timeout(PATIENCE, subscriber.wait())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    // Foreign topics end it with an error.
    let output = publish(DEVICE, presence(334), "x").await;
    assert!(!output.status.success(), "{output:?}");
}
