use std::fmt::Write;
use std::io;

use bytes::BytesMut;
use rumqttc::mqttbytes;
use rumqttc::mqttbytes::v4::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::gate::tests::{admitted, gate};
use crate::limits::{Limits, MAX_UNKEPT};
use crate::store::Kept;

const DEVICE: &str = "333.hula.atlas";
const PRESENCE: &str = "atlas/hula/333/tunnel/presence";
const STATE: &str = "atlas/hula/333/tunnel/state";

/// A client whose broker keeps what it retains when the test says so.
struct Client {
    hub: Arc<Hub>,
    far: DuplexStream,
    received: BytesMut,
}

impl Client {
    fn connect(keepalive: Option<Duration>) -> (Self, Box<Connection<DuplexStream>>) {
        let (hub, _for_bus) = Hub::new(gate(), Limits::default(), Some(Kept::default()));
        let client = admitted(&hub.gate, DEVICE);
        let attachment = hub.attach(client.clone(), true, None).unwrap();
        let (near, far) = duplex(64 * 1024);
        let transport = Transport::new(near);
        let connection = Box::new(Connection::new(
            transport,
            attachment,
            client,
            Arc::clone(&hub),
            keepalive,
        ));
        let client = Self {
            hub,
            far,
            received: BytesMut::new(),
        };
        (client, connection)
    }

    async fn publish(&mut self, topic: &str, retain: bool, pkid: u16) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, pkid.to_string());
        (publish.pkid, publish.retain) = (pkid, retain);
        self.send(Packet::Publish(publish)).await;
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.far.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.received, usize::MAX) {
                Ok(packet) => return packet,
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let count = self.far.read_buf(&mut self.received).await.unwrap();
            assert!(count > 0, "the broker has closed");
        }
    }

    async fn acknowledged(&mut self) -> u16 {
        let packet = self.next().await;
        let Packet::PubAck(ack) = packet else {
            panic!("no PUBACK but {packet:?}");
        };
        ack.pkid
    }

    /// All that has come so far is on the disk.
    fn keep(&self) {
        self.hub.journal.written(&self.hub.journal.take());
    }

    /// Everything that was sent has been handled, and nothing but this has been answered.
    async fn pinged(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.next().await, Packet::PingResp);
    }
}

/// Runs a client against its connection; how that had ended when it had, while the client went on.
async fn play<F: Future<Output = Client>>(
    mut connection: Box<Connection<DuplexStream>>,
    client: F,
) -> (Option<End>, Client) {
    tokio::pin!(client);
    tokio::select! {
        biased;
        end = connection.serve() => {
            drop(connection);
            (Some(end), client.await)
        }
        client = &mut client => (None, client),
    }
}

/// They cost what a PINGREQ costs; one that is awaited costs nothing.
#[tokio::test(start_paused = true)]
async fn acknowledgements_of_nothing_are_not_free() {
    let (mut client, connection) = Client::connect(None);
    let start = Instant::now();
    let (end, client) = play(connection, async {
        for _ in 0..3_000 {
            client.send(Packet::PubAck(PubAck { pkid: 1 })).await;
        }
        client.pinged().await;
        client
    })
    .await;
    assert!(end.is_none());
    assert_eq!(client.hub.counters.snapshot().slowed, 1);
    // 1,000 at once, then 500 a second.
    assert!(start.elapsed() >= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn what_is_retained_is_acknowledged_when_it_is_on_the_disk_and_what_follows_after_it() {
    let (mut client, connection) = Client::connect(None);
    let (end, _) = play(connection, async {
        client.publish(STATE, false, 1).await;
        assert_eq!(client.acknowledged().await, 1);
        client.publish(PRESENCE, true, 2).await;
        client.publish(STATE, false, 3).await;
        // The link is served meanwhile.
        client.pinged().await;
        client.keep();
        assert_eq!(client.acknowledged().await, 2);
        assert_eq!(client.acknowledged().await, 3);
        client
    })
    .await;
    assert!(end.is_none());
}

/// A client may go on without answers, only not for ever; and all that it has sent is handled in the end.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_wait_is_not_read_until_there_are_answers() {
    let (mut client, connection) = Client::connect(None);
    let (end, client) = play(connection, async {
        let count = u16::try_from(MAX_UNKEPT).unwrap() * 2;
        for pkid in 1..=count {
            client.publish(PRESENCE, true, pkid).await;
        }
        client.send(Packet::PingReq).await;
        let mut answered = 0;
        while answered < count {
            client.keep();
            if let Ok(pkid) = timeout(Duration::from_millis(10), client.acknowledged()).await {
                answered += 1;
                assert_eq!(pkid, answered);
            }
        }
        assert_eq!(client.next().await, Packet::PingResp);
        client
    })
    .await;
    assert!(end.is_none());
    let published = client.hub.counters.snapshot().published;
    assert_eq!(published, MAX_UNKEPT as u64 * 2);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_is_said_by_closing() {
    let (mut client, connection) = Client::connect(None);
    let start = Instant::now();
    let (end, client) = play(connection, async {
        client.publish(PRESENCE, true, 1).await;
        tokio::time::sleep(client.hub.limits.keeping * 2).await;
        client
    })
    .await;
    assert!(matches!(end, Some(End::Unkept)), "{end:?}");
    assert!(start.elapsed() >= client.hub.limits.keeping);
}

/// How the log says that a connection has ended, each time for another reason.
#[tokio::test(start_paused = true)]
async fn every_end_has_its_words() {
    let mut page = String::new();
    let mut add = |name: &str, end: Option<End>| {
        let end = end.unwrap_or_else(|| panic!("{name}: it goes on"));
        writeln!(page, "{name}\n    {}", one_line(&end)).unwrap();
    };
    let (mut client, connection) = Client::connect(None);
    let (end, _) = play(connection, async {
        client.send(Packet::Disconnect).await;
        client.until_closed().await
    })
    .await;
    add("DISCONNECT", end);
    let (client, mut connection) = Client::connect(None);
    drop(client.far);
    add("nothing more", Some(connection.serve().await));
    let (client, connection) = Client::connect(Some(Duration::from_secs(1)));
    let (end, _) = play(connection, client.until_closed()).await;
    add("silence", end);
    let (mut client, connection) = Client::connect(None);
    let (end, _) = play(connection, async {
        client.far.write_all(b"\xf0\0").await.unwrap();
        client.until_closed().await
    })
    .await;
    add("no packet of MQTT 3.1.1", end);
    let (mut client, connection) = Client::connect(None);
    let (end, _) = play(connection, async {
        client
            .publish("atlas/hula/334/tunnel/presence", true, 1)
            .await;
        client.until_closed().await
    })
    .await;
    add("another's presence", end);
    let (mut client, connection) = Client::connect(None);
    let (end, _) = play(connection, async {
        client.publish(PRESENCE, true, 1).await;
        client.until_closed().await
    })
    .await;
    add("a disk that takes nothing", end);
    for cut in [
        Cut::Distrusted,
        Cut::Drain,
        Cut::Forbidden,
        Cut::QueueFull,
        Cut::Revoked,
        Cut::TakenOver,
    ] {
        let (client, connection) = Client::connect(None);
        client.hub.cut_where(|_| Some(cut));
        let (end, _) = play(connection, client.until_closed()).await;
        add(&format!("{cut:?}"), end);
    }
    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
    add("a link that breaks", Some(End::Lost(gone)));
    add("a reader that stops", Some(End::Stalled));
    add("too much for too long", Some(End::Flood));
    let long = mqttbytes::Error::PayloadTooLong;
    add("an answer that cannot be", Some(End::Unwritable(long)));
    insta::assert_snapshot!("ends", page);
}

/// Who is not read cannot show that it is there.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_is_not_silent() {
    let (mut client, connection) = Client::connect(Some(Duration::from_secs(1)));
    let (end, _) = play(connection, async {
        for pkid in 1..=u16::try_from(MAX_UNKEPT).unwrap() {
            client.publish(PRESENCE, true, pkid).await;
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        client.keep();
        client.pinged_after(MAX_UNKEPT).await;
        client
    })
    .await;
    assert!(end.is_none(), "{end:?}");
}

impl Client {
    /// Reads what comes until the broker has ended the connection.
    async fn until_closed(mut self) -> Self {
        while self.far.read_buf(&mut self.received).await.unwrap() > 0 {}
        self
    }

    async fn pinged_after(&mut self, acknowledgements: usize) {
        self.send(Packet::PingReq).await;
        for _ in 0..acknowledgements {
            self.acknowledged().await;
        }
        assert_eq!(self.next().await, Packet::PingResp);
    }
}
