//! A client that sends whatever the test wants, and shows every packet it gets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish};
use rumqttc::mqttbytes::v4::{Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe};
use rumqttc::mqttbytes::{Error, QoS};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::PATIENCE;

pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    last_pkid: u16,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, tls).await
    }

    /// A client whose kernel takes little that it does not read.
    pub(crate) async fn narrow(address: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        Self::over(socket.connect(address).await?, tls).await
    }

    async fn over(stream: TcpStream, tls: Arc<ClientConfig>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let name = "localhost".try_into().unwrap();
        let connecting = TlsConnector::from(tls).connect(name, stream);
        let stream = timeout(PATIENCE, connecting)
            .await
            .expect("a TLS handshake")?;
        Ok(Self {
            stream,
            received: BytesMut::new(),
            last_pkid: 0,
        })
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // The broker may have closed already; what it then says is what the tests look at.
        drop(self.stream.write_all(bytes).await);
        drop(self.stream.flush().await);
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.bytes(&bytes).await;
    }

    /// The next packet, or none when the broker closes.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.next_in_time())
            .await
            .expect("a packet in time")
    }

    async fn next_in_time(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.received, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the broker sent {:02x?}: {error}", self.received),
            }
            if matches!(
                self.stream.read_buf(&mut self.received).await,
                Ok(0) | Err(_)
            ) {
                return None;
            }
        }
    }

    /// Everything until the broker closes, as bytes.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut rest = self.received.to_vec();
        let reading =
            async { while !matches!(self.stream.read_buf(&mut rest).await, Ok(0) | Err(_)) {} };
        timeout(PATIENCE, reading).await.expect("the broker closes");
        rest
    }

    /// The broker must close, and say nothing more.
    pub(crate) async fn closed(mut self) {
        assert_eq!(self.next().await, None);
    }

    /// Connects with a clean session and no will.
    pub(crate) async fn connect(&mut self, id: &str) {
        assert!(!self.connect_with(Connect::new(id)).await.unwrap());
    }

    /// Connects; whether the session was there, or the refusal.
    pub(crate) async fn connect_with(
        &mut self,
        connect: Connect,
    ) -> Result<bool, ConnectReturnCode> {
        self.send(Packet::Connect(connect)).await;
        match self.next().await {
            Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => {
                Ok(ack.session_present)
            }
            Some(Packet::ConnAck(ack)) => Err(ack.code),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        self.subscribe_all(&[(filter, qos)]).await[0]
    }

    pub(crate) async fn subscribe_all(
        &mut self,
        filters: &[(&str, QoS)],
    ) -> Vec<SubscribeReasonCode> {
        let filters = filters
            .iter()
            .map(|(path, qos)| SubscribeFilter::new((*path).to_owned(), *qos));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = self.pkid();
        self.send(Packet::Subscribe(subscribe)).await;
        match self.next().await {
            Some(Packet::SubAck(ack)) => {
                assert_eq!(ack.pkid, self.last_pkid);
                ack.return_codes
            }
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) {
        let mut unsubscribe = Unsubscribe::new(filter);
        unsubscribe.pkid = self.pkid();
        self.send(Packet::Unsubscribe(unsubscribe)).await;
        match self.next().await {
            Some(Packet::UnsubAck(ack)) => assert_eq!(ack.pkid, self.last_pkid),
            other => panic!("no UNSUBACK but {other:?}"),
        }
    }

    /// Publishes, and waits for the PUBACK if there is to be one.
    pub(crate) async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
        self.publish_unanswered(topic, qos, retain, payload).await;
        if qos == QoS::AtLeastOnce {
            let pkid = self.last_pkid;
            assert_eq!(self.next().await, Some(Packet::PubAck(PubAck { pkid })));
        }
    }

    pub(crate) async fn publish_unanswered(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        payload: &str,
    ) {
        let mut publish = Publish::new(topic, qos, payload);
        publish.retain = retain;
        publish.pkid = self.pkid();
        self.send(Packet::Publish(publish)).await;
    }

    /// The next message; it is acknowledged.
    pub(crate) async fn message(&mut self) -> Publish {
        let publish = self.unacknowledged().await;
        if publish.qos == QoS::AtLeastOnce {
            self.send(Packet::PubAck(PubAck { pkid: publish.pkid }))
                .await;
        }
        publish
    }

    pub(crate) async fn unacknowledged(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("no message but {other:?}"),
        }
    }

    /// The payload of the next message.
    pub(crate) async fn text(&mut self) -> String {
        String::from_utf8(self.message().await.payload.to_vec()).unwrap()
    }

    /// Nothing has come but the answer to this.
    pub(crate) async fn quiet(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.next().await, Some(Packet::PingResp));
    }

    /// Says goodbye, and waits for the broker to close.
    pub(crate) async fn disconnect(mut self) {
        self.send(Packet::Disconnect).await;
        self.closed().await;
    }

    fn pkid(&mut self) -> u16 {
        self.last_pkid = self.last_pkid.wrapping_add(1).max(1);
        self.last_pkid
    }
}

/// A CONNECT with a retained will.
pub(crate) fn with_will(id: &str, topic: &str, payload: &str) -> Connect {
    let mut connect = Connect::new(id);
    connect.last_will = Some(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    connect
}

/// A CONNECT of a session that is to be kept.
pub(crate) fn kept(id: &str) -> Connect {
    let mut connect = Connect::new(id);
    connect.clean_session = false;
    connect
}
