//! What agent and controller send stays within the documented limits of AWS IoT Core.
//!
//! Their packets pass through a relay that ends TLS, writes down what a client sends, and hands it to a broker behind it;
//! the relay changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use e2e::{CEILING, Daemon, ReservedPort, World, is_listening, tool, wait_until};
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::mqttbytes::{Error, QoS};
use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::external::Way;

/// AWS IoT Core message broker and protocol limits and quotas, as documented in 2026.
const MAX_CLIENT_ID: usize = 128;
const MAX_PACKET: usize = 128 * 1024;
const MAX_TOPIC: usize = 256;
const MAX_SLASHES: usize = 7;
const MAX_FILTERS_PER_SUBSCRIBE: usize = 8;
const MAX_SUBSCRIPTIONS: usize = 50;
const KEEP_ALIVE: std::ops::RangeInclusive<u16> = 30..=1200;

#[test]
fn everything_that_is_sent_is_within_the_limits() {
    let mut way = Way::enrolled(World::new());
    let (_broker, port) = plain_broker(&way.world);
    let relay = Relay::start(&way.world, port);
    way.start_agent();
    way.connect();
    let _ = way
        .world
        .run_as(&way.controller, &["disconnect", "333"])
        .code;
    way.stop_agent();
    way.start_agent();
    way.agent.take().expect("it runs").signal(Signal::KILL);
    way.world
        .wait_for_presence(&way.controller, &way.device, false);

    let sessions = relay.sessions();
    let (mut agents, mut controllers, mut published) = (0, 0, BTreeMap::new());
    for packets in &sessions {
        let Some((_, Packet::Connect(connect))) = packets.first() else {
            panic!("a session does not begin with CONNECT: {packets:?}");
        };
        match connect.client_id.as_str() {
            "333.hula.atlas" => agents += 1,
            "controller-a.hula.atlas" => controllers += 1,
            other => panic!("a client id that is no certificate's name: {other}"),
        }
        check(packets, &mut published);
    }
    // The test has seen what it is about: orders, replies and presences, of both parts.
    assert!(agents >= 2 && controllers >= 3, "{agents} {controllers}");
    for topic in [
        "atlas/hula/333/tunnel/control/controller-a",
        "atlas/hula/controller-a/tunnel/reply/333",
        "atlas/hula/333/tunnel/presence",
    ] {
        assert!(published.contains_key(topic), "{topic}: {published:?}");
    }
    println!("{} sessions, published: {published:?}", sessions.len());
}

fn check(packets: &[(usize, Packet)], published: &mut BTreeMap<String, usize>) {
    let mut subscriptions = 0;
    for (size, packet) in packets {
        assert!(*size <= MAX_PACKET, "{size} bytes: {packet:?}");
        match packet {
            Packet::Connect(connect) => {
                assert!(connect.client_id.len() <= MAX_CLIENT_ID, "{connect:?}");
                assert!(KEEP_ALIVE.contains(&connect.keep_alive), "{connect:?}");
                assert!(connect.clean_session, "{connect:?}");
                if let Some(will) = &connect.last_will {
                    check_topic(&will.topic);
                    assert_ne!(will.qos, QoS::ExactlyOnce, "{will:?}");
                }
            }
            Packet::Publish(publish) => {
                check_topic(&publish.topic);
                assert_ne!(publish.qos, QoS::ExactlyOnce, "{publish:?}");
                *published.entry(publish.topic.clone()).or_default() += 1;
            }
            Packet::Subscribe(subscribe) => {
                assert!(subscribe.filters.len() <= MAX_FILTERS_PER_SUBSCRIBE);
                subscriptions += subscribe.filters.len();
                for filter in &subscribe.filters {
                    check_topic(&filter.path);
                    assert_ne!(filter.qos, QoS::ExactlyOnce, "{filter:?}");
                }
            }
            // AWS IoT Core has none of the packets of QoS 2.
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => panic!("{packet:?}"),
            Packet::PubAck(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::PingResp
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::Disconnect => {}
        }
    }
    assert!(subscriptions <= MAX_SUBSCRIPTIONS, "{subscriptions}");
}

fn check_topic(topic: &str) {
    assert!(topic.len() <= MAX_TOPIC, "{topic}");
    assert!(topic.matches('/').count() <= MAX_SLASHES, "{topic}");
    assert!(!topic.starts_with('$'), "{topic}");
}

/// A mosquitto without TLS, for the relay alone.
#[track_caller]
fn plain_broker(world: &World) -> ((Daemon, ReservedPort), u16) {
    let reserved = ReservedPort::take();
    let port = reserved.number();
    let config = world.path("plain.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nuser root\nallow_anonymous true\npersistence false\nlog_dest stderr\n\
         set_tcp_nodelay true\n"
    );
    fs::write(&config, text).expect("the world's folder is writable");
    let mut command = Command::new(tool("mosquitto"));
    world.mark(&mut command);
    command.arg("-c").arg(&config);
    let daemon = world.daemon("plain", &mut command);
    wait_until("mosquitto to listen", CEILING, || {
        if is_listening(port) {
            Ok(())
        } else {
            Err(daemon.stderr())
        }
    });
    ((daemon, reserved), port)
}

/// What each client has sent, with the size of each packet.
type Sessions = Arc<Mutex<Vec<Vec<(usize, Packet)>>>>;

struct Relay {
    sessions: Sessions,
}

impl Relay {
    /// Listens on the world's broker port, for as long as the test runs.
    #[track_caller]
    fn start(world: &World, behind: u16) -> Self {
        let folder = world.realm().join("broker");
        let certificate = CertificateDer::pem_file_iter(folder.join("server.cert"))
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificate, key)
            .unwrap();
        let (tls, sessions) = (Arc::new(tls), Sessions::default());
        let listener = TcpListener::bind(("127.0.0.1", world.broker_port())).unwrap();
        let written = Arc::clone(&sessions);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (tls, written) = (Arc::clone(&tls), Arc::clone(&written));
                let client = client.unwrap();
                thread::spawn(move || pass_on(client, tls, behind, &written));
            }
        });
        Self { sessions }
    }

    fn sessions(&self) -> Vec<Vec<(usize, Packet)>> {
        self.sessions.lock().unwrap().clone()
    }
}

/// Passes bytes on in both directions until one end closes.
fn pass_on(client: TcpStream, tls: Arc<ServerConfig>, behind: u16, sessions: &Sessions) {
    let mut broker = TcpStream::connect(("127.0.0.1", behind)).unwrap();
    for socket in [&client, &broker] {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(TURN)).unwrap();
    }
    let mut client = StreamOwned::new(ServerConnection::new(tls).unwrap(), client);
    let place = {
        let mut sessions = sessions.lock().unwrap();
        sessions.push(Vec::new());
        sessions.len() - 1
    };
    let mut unread = BytesMut::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match some(client.read(&mut buffer)) {
            Some(0) => return,
            Some(count) => {
                unread.extend_from_slice(&buffer[..count]);
                write_down(&mut unread, &mut sessions.lock().unwrap()[place]);
                if broker.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            None => {}
        }
        match some(broker.read(&mut buffer)) {
            Some(0) => return,
            Some(count) if client.write_all(&buffer[..count]).is_err() => return,
            Some(_) | None => {}
        }
    }
}

/// How many bytes have come, if it was the time for any; an error is an end.
fn some(read: std::io::Result<usize>) -> Option<usize> {
    match read {
        Ok(count) => Some(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(0),
    }
}

fn write_down(unread: &mut BytesMut, session: &mut Vec<(usize, Packet)>) {
    loop {
        let before = unread.len();
        match Packet::read(unread, usize::MAX) {
            Ok(packet) => session.push((before - unread.len(), packet)),
            Err(Error::InsufficientBytes(_)) => return,
            Err(error) => panic!("the client sends what is no packet: {error}"),
        }
    }
}

/// How long one direction is listened to before it is the other one's turn.
const TURN: Duration = Duration::from_millis(2);
