//! MQTT 3.1.1 on a TLS socket, packet by packet: what a well-behaved client library would not send.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::BytesMut;
use e2e::{CEILING, Device, Stopwatch, World};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, PubAck, Publish, Subscribe, SubscribeReasonCode,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// A client's connection. Dropping it cuts the socket without a DISCONNECT.
pub(super) struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: BytesMut,
    heard: Vec<(String, Vec<u8>)>,
    next_id: u16,
}

/// What a broker does with something it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It said yes (which need not be true).
    Yes,
    /// It said no: a return code of CONNACK, or 0x80 in SUBACK.
    No,
    /// It closed the connection.
    Closed,
}

/// The largest packet to take; more than any test sends.
const LARGEST: usize = 64 * 1024;

impl Wire {
    /// Connects with a device's certificate and any client id and will.
    pub(super) fn connect(
        world: &World,
        device: &Device,
        client_id: &str,
        will: Option<LastWill>,
    ) -> Result<Self, Answer> {
        let socket = TcpStream::connect(("127.0.0.1", world.broker_port())).unwrap();
        socket.set_read_timeout(Some(CEILING)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let session = ClientConnection::new(Arc::new(tls(world, device)), name).unwrap();
        let mut wire = Self {
            stream: StreamOwned::new(session, socket),
            buffer: BytesMut::new(),
            heard: Vec::new(),
            next_id: 0,
        };
        let mut connect = Connect::new(client_id);
        connect.keep_alive = 60;
        connect.last_will = will;
        wire.send(&Packet::Connect(connect))
            .map_err(|()| Answer::Closed)?;
        match wire.receive() {
            Ok(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => Ok(wire),
            Ok(Packet::ConnAck(_)) => Err(Answer::No),
            Ok(other) => panic!("the broker answers CONNECT with {other:?}"),
            Err(()) => Err(Answer::Closed),
        }
    }

    /// Connects as the device that the certificate is for.
    #[track_caller]
    pub(super) fn connect_as_itself(world: &World, device: &Device) -> Self {
        Self::connect(world, device, &device.id(), None)
            .unwrap_or_else(|answer| panic!("{} may connect: {answer:?}", device.id()))
    }

    /// Publishes with QoS 1.
    pub(super) fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> Answer {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = self.id();
        publish.retain = retain;
        self.ask(&Packet::Publish(publish), |answer| {
            matches!(answer, Packet::PubAck(_)).then_some(Answer::Yes)
        })
    }

    /// Subscribes with QoS 1.
    pub(super) fn subscribe(&mut self, filter: &str) -> Answer {
        let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
        subscribe.pkid = self.id();
        self.ask(&Packet::Subscribe(subscribe), |answer| {
            let Packet::SubAck(ack) = answer else {
                return None;
            };
            let granted = matches!(ack.return_codes[..], [SubscribeReasonCode::Success(_)]);
            Some(if granted { Answer::Yes } else { Answer::No })
        })
    }

    /// A round trip: everything that the broker had queued for this connection before is heard after it.
    pub(super) fn ping(&mut self) -> Answer {
        self.ask(&Packet::PingReq, |answer| {
            matches!(answer, Packet::PingResp).then_some(Answer::Yes)
        })
    }

    /// Waits until a message with this payload has come.
    #[track_caller]
    pub(super) fn hear(&mut self, payload: &str) {
        let watch = Stopwatch::start();
        while !self.has_heard(payload) {
            assert!(
                watch.elapsed() < CEILING,
                "`{payload}` does not come; heard {:?}",
                self.topics()
            );
            let packet = self
                .receive()
                .unwrap_or_else(|()| panic!("closed before `{payload}` came"));
            self.take(packet);
        }
    }

    /// Whether a message with this payload has come.
    pub(super) fn has_heard(&self, payload: &str) -> bool {
        self.heard
            .iter()
            .any(|(_, heard)| heard == payload.as_bytes())
    }

    /// The topics of everything that has come.
    pub(super) fn topics(&self) -> Vec<&str> {
        self.heard.iter().map(|(topic, _)| &**topic).collect()
    }

    fn ask(&mut self, question: &Packet, is_answer: impl Fn(&Packet) -> Option<Answer>) -> Answer {
        if self.send(question).is_err() {
            return Answer::Closed;
        }
        loop {
            let Ok(packet) = self.receive() else {
                return Answer::Closed;
            };
            if let Some(answer) = is_answer(&packet) {
                return answer;
            }
            self.take(packet);
        }
    }

    fn take(&mut self, packet: Packet) {
        if let Packet::Publish(publish) = packet {
            if publish.qos == QoS::AtLeastOnce {
                // A broker that has gone is noticed by the next read.
                let _ = self.send(&Packet::PubAck(PubAck::new(publish.pkid)));
            }
            self.heard.push((publish.topic, publish.payload.to_vec()));
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&mut self, packet: &Packet) -> Result<(), ()> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, LARGEST).unwrap();
        self.stream
            .write_all(&bytes)
            .and_then(|()| self.stream.flush())
            .map_err(drop)
    }

    /// The next packet; `Err` when the broker has closed.
    fn receive(&mut self) -> Result<Packet, ()> {
        loop {
            match Packet::read(&mut self.buffer, LARGEST) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the broker sends no MQTT: {error}"),
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(()),
                Ok(got) => self.buffer.extend_from_slice(&chunk[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the broker says nothing within {CEILING:?}")
                }
                Err(_) => return Err(()),
            }
        }
    }
}

fn tls(world: &World, device: &Device) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&world.realm().join("ca/ca.cert")) {
        roots.add(certificate).unwrap();
    }
    let key = fs::read(device.tls_key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            certificates(&device.certificate()),
            PrivateKeyDer::from_pem_slice(&key).unwrap(),
        )
        .unwrap()
}

fn certificates(file: &std::path::Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}
