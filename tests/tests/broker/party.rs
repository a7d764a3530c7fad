//! A client that sends whatever the test wants, and shows every packet it gets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use e2e::{CEILING, Device, World};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::packets::{self, Connect, PINGREQ, acknowledgement};
use super::seen::{Heard, Seen, take};

/// A client's TLS connection. Dropping it cuts the socket without a DISCONNECT.
pub(crate) struct Party {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
    ended: bool,
    last_id: u16,
    /// Whether messages are acknowledged as they come.
    pub(crate) acknowledges: bool,
}

impl Party {
    /// A connection that has not said anything.
    pub(crate) fn dial(port: u16, tls: &Arc<ClientConfig>) -> Self {
        Self::try_dial(port, tls).unwrap()
    }

    /// The same, of a broker that may not be there.
    pub(crate) fn try_dial(port: u16, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let name = "127.0.0.1".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(tls), name).unwrap();
        Ok(Self {
            stream: StreamOwned::new(session, socket),
            received: Vec::new(),
            ended: false,
            last_id: 0,
            acknowledges: true,
        })
    }

    /// Sends bytes. A broker that has closed already is no failure: what it then says is what the tests look at.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
        drop(self.stream.flush());
    }

    /// The next packet, or that the broker has closed, or that it says nothing.
    pub(crate) fn next(&mut self) -> Seen {
        self.within(CEILING).unwrap_or(Seen::Silence)
    }

    /// The next packet, if one comes in time.
    pub(crate) fn within(&mut self, limit: Duration) -> Option<Seen> {
        loop {
            if let Some(seen) = take(&mut self.received) {
                if let Seen::Publish(heard) = &seen {
                    self.acknowledge(heard);
                }
                if let Seen::PubRel(id) = seen
                    && self.acknowledges
                {
                    self.send(&acknowledgement(0x70, id));
                    continue;
                }
                return Some(seen);
            }
            if self.ended {
                return Some(Seen::Closed);
            }
            let mut chunk = [0; 4096];
            self.stream.sock.set_read_timeout(Some(limit)).unwrap();
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(got) => self.received.extend_from_slice(&chunk[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Everything until what is wished has come, it included, or until the broker closes or falls silent.
    pub(crate) fn until(&mut self, wished: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let seen = self.next();
            let done = wished(&seen) || matches!(seen, Seen::Closed | Seen::Silence);
            all.push(seen);
            if done {
                return all;
            }
        }
    }

    /// Sends CONNECT; what is answered.
    pub(crate) fn connect(&mut self, connect: &Connect<'_>) -> Seen {
        self.send(&connect.bytes());
        self.next()
    }

    /// Publishes, and waits until the broker has the message: what it has answered.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> Vec<Seen> {
        let id = self.id();
        self.send(&packets::publish(topic, payload, qos, retain, id));
        match qos {
            0 => self.ping(),
            1 => self.until(|seen| *seen == Seen::PubAck(id)),
            _ => {
                let mut all = self.until(|seen| *seen == Seen::PubRec(id));
                if all.last() == Some(&Seen::PubRec(id)) {
                    self.send(&acknowledgement(0x62, id));
                    all.extend(self.until(|seen| *seen == Seen::PubComp(id)));
                }
                all
            }
        }
    }

    /// Subscribes: everything up to the SUBACK.
    pub(crate) fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<Seen> {
        let id = self.id();
        self.send(&packets::subscribe(id, filters));
        self.until(|seen| matches!(seen, Seen::SubAck(other, _) if *other == id))
    }

    /// Unsubscribes: everything up to the UNSUBACK.
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<Seen> {
        let id = self.id();
        self.send(&packets::unsubscribe(id, filters));
        self.until(|seen| *seen == Seen::UnsubAck(id))
    }

    /// A round trip: all that came before its end.
    pub(crate) fn ping(&mut self) -> Vec<Seen> {
        self.send(PINGREQ);
        self.until(|seen| *seen == Seen::PingResp)
    }

    /// Says goodbye and waits for the broker to close.
    pub(crate) fn disconnect(mut self) {
        self.send(packets::DISCONNECT);
        self.until(|_| false);
    }

    pub(crate) fn id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    fn acknowledge(&mut self, heard: &Heard) {
        if self.acknowledges && heard.qos > 0 {
            let first = if heard.qos == 1 { 0x40 } else { 0x50 };
            self.send(&acknowledgement(first, heard.id));
        }
    }
}

/// The TLS settings of a device of this world.
pub(crate) fn tls(world: &World, device: &Device) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&world.realm().join("ca/ca.cert")) {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            certificates(&device.certificate()),
            PrivateKeyDer::from_pem_file(device.tls_key()).unwrap(),
        );
    Arc::new(config.unwrap())
}

fn certificates(file: &std::path::Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}
