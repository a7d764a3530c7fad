//! A broker for the tests of the link, and one connection of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use daemon::host_port::HostPort;
use daemon::mqtt::{Link, LinkSettings, Message};
use daemon::realm_file::SubscribeQos;
use daemon::shutdown::Shutdown;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error, QoS};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::{in_time, message};

/// What the link subscribes to.
pub(crate) const FILTERS: [&str; 2] = ["atlas/hula/333/first", "atlas/hula/333/second"];

/// The answer that grants it.
pub(crate) const GRANTED: [SubscribeReasonCode; 2] =
    [SubscribeReasonCode::Success(QoS::AtLeastOnce); 2];

/// A broker that does nothing by itself.
pub(crate) struct ScriptedBroker {
    pub(crate) listener: TcpListener,
    tls: TlsAcceptor,
    client: Arc<ClientConfig>,
    /// The owner of the link's task.
    pub(crate) shutdown: Shutdown,
}

/// One connection of it.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    pkid: u16,
}

impl ScriptedBroker {
    pub(crate) async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: TlsAcceptor::from(Arc::new(server)),
            client: Arc::new(client),
            shutdown: Shutdown::new(Duration::from_secs(1)),
        }
    }

    pub(crate) fn link(&self) -> Link {
        self.link_with(vec![self.address()], None)
    }

    pub(crate) fn address(&self) -> HostPort {
        let address = self.listener.local_addr().unwrap();
        address.to_string().parse().unwrap()
    }

    pub(crate) fn link_to(&self, brokers: Vec<HostPort>) -> Link {
        self.link_with(brokers, None)
    }

    pub(crate) fn link_with(&self, brokers: Vec<HostPort>, first: Option<Message>) -> Link {
        let settings = LinkSettings {
            brokers,
            tls: Arc::clone(&self.client),
            client_id: "333.hula.atlas".to_owned(),
            filters: FILTERS.map(str::to_owned).to_vec(),
            subscribe_qos: SubscribeQos::default(),
            will: Some(Box::new(|epoch| message(&epoch.0.to_string()))),
        };
        Link::start_with(settings, first, &self.shutdown)
    }

    /// A session up to its CONNECT.
    pub(crate) async fn met(&self) -> (Session, Connect) {
        in_time(async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut session = Session {
                stream: self.tls.accept(stream).await.unwrap(),
                received: BytesMut::new(),
                pkid: 0,
            };
            let Some(Packet::Connect(connect)) = session.next().await else {
                panic!("no CONNECT");
            };
            (session, connect)
        })
        .await
    }

    /// A session up to its CONNACK.
    pub(crate) async fn accept(&self) -> (Session, Connect) {
        let (mut session, connect) = self.met().await;
        session.accept().await;
        (session, connect)
    }

    /// A session whose subscriptions are granted.
    pub(crate) async fn session(&self) -> (Session, Connect) {
        let (mut session, connect) = self.accept().await;
        session.subscribed(&GRANTED).await;
        (session, connect)
    }
}

impl Session {
    /// The next packet; `None` when the link has closed.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        in_time(async {
            loop {
                match Packet::read(&mut self.received, usize::MAX) {
                    Ok(packet) => return Some(packet),
                    Err(Error::InsufficientBytes(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if matches!(
                    self.stream.read_buf(&mut self.received).await,
                    Ok(0) | Err(_)
                ) {
                    return None;
                }
            }
        })
        .await
    }

    pub(crate) async fn accept(&mut self) {
        let accepted = ConnAck::new(ConnectReturnCode::Success, false);
        self.send(Packet::ConnAck(accepted)).await;
    }

    /// Nothing comes that should not: what would come is there long before.
    pub(crate) async fn is_silent(&mut self) {
        if let Ok(packet) = timeout(Duration::from_millis(300), self.next()).await {
            panic!("{packet:?}");
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        // A link that has closed is what the tests look at then.
        drop(self.stream.write_all(&bytes).await);
        drop(self.stream.flush().await);
    }

    /// Waits for the subscription and answers it.
    pub(crate) async fn subscribed(&mut self, codes: &[SubscribeReasonCode]) {
        let Some(Packet::Subscribe(subscribe)) = self.next().await else {
            panic!("no SUBSCRIBE");
        };
        let filters = subscribe.filters.iter().map(|filter| &filter.path[..]);
        assert!(filters.eq(FILTERS));
        let answer = SubAck::new(subscribe.pkid, codes.to_vec());
        self.send(Packet::SubAck(answer)).await;
    }

    pub(crate) async fn publish(&mut self, text: &str) {
        self.pkid = self.pkid % 60_000 + 1;
        let mut publish = Publish::new(FILTERS[0], QoS::AtLeastOnce, text);
        publish.pkid = self.pkid;
        self.send(Packet::Publish(publish)).await;
    }

    /// The text of the message that comes next; it is acknowledged.
    pub(crate) async fn published(&mut self) -> String {
        match self.next().await {
            Some(Packet::Publish(publish)) => {
                self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
                String::from_utf8(publish.payload.to_vec()).unwrap()
            }
            other => panic!("no message but {other:?}"),
        }
    }

    /// Reads until the link has closed.
    pub(crate) async fn closed(mut self) {
        while self.next().await.is_some() {}
    }
}
