//! Many sessions without sockets: what a session costs in memory and a message in processor time, as they grow in number.
//!
//! In the ordinary run there are 2,000, and it is shown that all are served; the environment variable
//! `TUNNEL_BENCH_SESSIONS` asks for more, and the figures are then worth reading.

use std::fs;

use rumqttc::mqttbytes;
use rumqttc::mqttbytes::v4::{Packet, Subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;

use super::*;
use crate::gate::tests::{admitted, gate};
use crate::limits::Limits;
use crate::topic::TopicName;

/// A client's end of a connection.
struct Client {
    name: String,
    far: DuplexStream,
}

impl Client {
    /// A connected client with a will, whose session is served by a task of its own.
    fn connect(hub: &Arc<Hub>, tasks: &mut JoinSet<()>, name: &str) -> Self {
        let client = admitted(&hub.gate, &format!("{name}.hula.atlas"));
        let will = (!name.starts_with("controller")).then(|| {
            let topic = TopicName::parse(&presence(name)).unwrap();
            let message = Message::new(topic, &[b'w'; 100], Qos::AtLeastOnce, true);
            hub.gate.publish(&client, message).unwrap()
        });
        let attachment = hub.attach(client.clone(), true, will).unwrap();
        let (near, far) = duplex(4 * 1024);
        let minute = Some(Duration::from_mins(10));
        let hub = Arc::clone(hub);
        let connection = Connection::new(Transport::new(near), attachment, client, hub, minute);
        tasks.spawn(Box::new(connection).run());
        Self {
            name: name.to_owned(),
            far,
        }
    }

    async fn ask(&mut self, packet: Packet) -> Packet {
        let mut bytes = bytes::BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.far.write_all(&bytes).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> Packet {
        let mut bytes = bytes::BytesMut::new();
        loop {
            match Packet::read(&mut bytes, usize::MAX) {
                Ok(packet) => return packet,
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let count = self.far.read_buf(&mut bytes).await.unwrap();
            assert!(count > 0, "the broker has closed");
        }
    }

    async fn subscribe(&mut self, filter: &str) {
        let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
        subscribe.pkid = 1;
        let answer = self.ask(Packet::Subscribe(subscribe)).await;
        assert!(matches!(answer, Packet::SubAck(_)), "{answer:?}");
    }

    async fn publish(&mut self, kind: &str, retain: bool) {
        let topic = format!("atlas/hula/{}/tunnel/{kind}", self.name);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, vec![b'x'; 100]);
        (publish.pkid, publish.retain) = (2, retain);
        let answer = self.ask(Packet::Publish(publish)).await;
        assert!(matches!(answer, Packet::PubAck(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn sessions_without_sockets() {
    let count: usize =
        std::env::var("TUNNEL_BENCH_SESSIONS").map_or(2_000, |count| count.parse().unwrap());
    let limits = Limits {
        sessions: count + 1,
        ..Limits::default()
    };
    let (hub, mut for_bus) = Hub::new(gate(), limits, None);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { while for_bus.recv().await.is_some() {} });
    let mut controller = Client::connect(&hub, &mut tasks, "controller-a");
    controller.subscribe("atlas/hula/+/tunnel/state").await;
    let mut devices: Vec<Client> = Vec::with_capacity(count);
    let empty = resident();
    for step in 1..=10 {
        let before = cpu();
        let first = devices.len();
        while devices.len() < count * step / 10 {
            let name = format!("d{}", devices.len());
            let mut device = Client::connect(&hub, &mut tasks, &name);
            device
                .subscribe(&format!("atlas/hula/{name}/tunnel/control/+"))
                .await;
            device.publish("presence", true).await;
            devices.push(device);
        }
        let connects = cpu() - before;
        let (before, live) = (cpu(), devices.len());
        for message in 0..MESSAGES {
            let device = &mut devices[message * 7919 % live];
            device.publish("state", false).await;
            let Packet::Publish(heard) = controller.next().await else {
                panic!("no message");
            };
            assert_eq!(
                heard.topic,
                format!("atlas/hula/{}/tunnel/state", device.name)
            );
            let mut ack = bytes::BytesMut::new();
            PubAck::new(heard.pkid).write(&mut ack).unwrap();
            controller.far.write_all(&ack).await.unwrap();
        }
        println!(
            "{live:>7} sessions: {:>6.1} KiB each, {:>6.1} µs to connect, subscribe and retain one, {:>5.1} µs a message",
            to_f64(resident().saturating_sub(empty)) / to_f64(live),
            connects / to_f64(live - first),
            (cpu() - before) / to_f64(MESSAGES),
        );
    }
    let counters = hub.counters.snapshot();
    assert_eq!(counters.sessions, count as u64 + 1);
    assert_eq!(counters.retained_messages, count as u64);
}

fn presence(name: &str) -> String {
    format!("atlas/hula/{name}/tunnel/presence")
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap()
}

/// Processor time of this thread, which does everything here, in microseconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = stat.split_whitespace().next().unwrap().parse().unwrap();
    nanoseconds / 1e3
}

fn to_f64(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// Messages in each step.
const MESSAGES: usize = 2_000;
