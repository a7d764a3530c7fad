use std::sync::Mutex;

use daemon::host_port::HostPort;
use daemon::ssh::{self, PeerKind};
use daemon::ssh_client::RequestError;
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, Session, VerifiedPublicKey};
use russh::{ChannelId, Disconnect, SshId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::asking::{Next, after_refusal};
use super::*;

/// A test that takes longer has failed.
const CEILING: Duration = Duration::from_secs(20);

/// A proxy that writes down what it is asked for.
#[derive(Clone, Default)]
struct Script {
    asked: Arc<Mutex<Vec<String>>>,
    /// Refuses every forward.
    refuses: bool,
    /// Opens a stream at this port as soon as the login has succeeded.
    early: Option<u32>,
    /// Answers forwards when this is notified.
    held: Option<Arc<Notify>>,
    handle: Arc<Mutex<Option<server::Handle>>>,
}

impl server::Handler for Script {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        if let Some(port) = self.early {
            let from = "controller-a.hula.atlas";
            session.channel_open_forwarded_tcpip("localhost", port, from, 0)?;
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.close(channel)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        *self.handle.lock().unwrap() = Some(session.handle());
        if let Some(held) = &self.held {
            held.notified().await;
        }
        let mut asked = self.asked.lock().unwrap();
        asked.push(format!("forward {address}:{port}"));
        if *port == 0 {
            *port = 50_000 + u32::try_from(asked.len()).unwrap();
        }
        Ok(!self.refuses)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(format!("cancel {address}:{port}"));
        Ok(true)
    }
}

/// A member at a proxy that does as the script says.
struct Stand {
    script: Script,
    retire: CancellationToken,
    events: mpsc::Receiver<(MemberId, Event)>,
    _tasks: JoinSet<()>,
}

impl Stand {
    /// `ports` are those that others forward already, if any.
    async fn new(kind: PeerKind, script: Script, services: &[(&str, u16)], ports: &[u16]) -> Self {
        let host_key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let host_keys = vec![host_key.public_key().clone()];
        let config = match kind {
            PeerKind::Own => ssh::server_config(vec![host_key]),
            PeerKind::Foreign => Arc::new(server::Config {
                server_id: SshId::Standard("SSH-2.0-OpenSSH_10.0".into()),
                keys: vec![host_key],
                ..server::Config::default()
            }),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        let handler = script.clone();
        tasks.spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let session = server::run_stream(config, socket, handler).await.unwrap();
            let _ = session.await;
        });
        let services = services
            .iter()
            .map(|(name, port)| (name.parse().unwrap(), Service::At(local(*port))));
        let plan = Plan {
            port: 0,
            device: "333.hula.atlas".parse().unwrap(),
            proxy: local(port),
            host_keys,
            key: Arc::new(PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()),
            services: services.collect(),
            builtin: None,
            always_on: None,
        };
        let forwards = plan.services.iter().zip(ports);
        let forwards = forwards.map(|((service, _), port)| Forward {
            service: service.clone(),
            port: *port,
        });
        let retire = CancellationToken::new();
        let (event_sender, events) = mpsc::channel(8);
        let seat = Seat {
            id: MemberId(0),
            ports: forwards.collect(),
            joins: !ports.is_empty(),
            retire: retire.clone(),
            ends: Ends::default(),
            events: event_sender,
        };
        tasks.spawn(Member::new(Arc::new(plan), seat).run());
        Self {
            script,
            retire,
            events,
            _tasks: tasks,
        }
    }

    async fn told(&mut self) -> Event {
        let told = timeout(CEILING, self.events.recv()).await;
        told.expect("nothing is told")
            .expect("the member is gone")
            .1
    }

    fn asked(&self) -> Vec<String> {
        self.script.asked.lock().unwrap().clone()
    }
}

fn local(port: u16) -> HostPort {
    HostPort::new("127.0.0.1", port).unwrap()
}

#[tokio::test]
async fn what_was_forwarded_is_given_back() {
    let services = [("ssh", 22), ("web", 8080)];
    let mut stand = Stand::new(PeerKind::Own, Script::default(), &services, &[]).await;
    assert!(matches!(stand.told().await, Event::Up(forwards) if forwards.len() == 2));
    stand.retire.cancel();
    assert!(matches!(stand.told().await, Event::Retired));
    let expected = [
        "forward localhost:0",
        "forward localhost:0",
        "forward 333:8080",
        "cancel localhost:50001",
        "cancel localhost:50002",
        "cancel 333:8080",
    ];
    assert_eq!(stand.asked(), expected);
}

#[tokio::test]
async fn a_foreign_proxy_is_asked_for_no_names() {
    let services = [("ssh", 22), ("web", 8080)];
    let mut stand = Stand::new(PeerKind::Foreign, Script::default(), &services, &[]).await;
    assert!(matches!(stand.told().await, Event::Up(_)));
    let expected = ["forward localhost:0", "forward localhost:0"];
    assert_eq!(stand.asked(), expected);
}

#[tokio::test]
async fn only_a_foreign_proxy_that_refuses_a_second_connection_is_shared() {
    let script = || Script {
        refuses: true,
        ..Script::default()
    };
    let services = [("ssh", 22)];
    let mut ours = Stand::new(PeerKind::Own, script(), &services, &[61333]).await;
    assert!(
        matches!(ours.told().await, Event::Failed(_)),
        "it may have too many, or be about to stop"
    );
    assert_eq!(ours.asked(), ["forward localhost:61333"]);
    let mut foreign = Stand::new(PeerKind::Foreign, script(), &services, &[61333]).await;
    assert!(matches!(foreign.told().await, Event::NotPooled));
}

#[tokio::test]
async fn a_service_sees_that_the_proxy_has_gone() {
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let services = [("ssh", service.local_addr().unwrap().port())];
    let mut stand = Stand::new(PeerKind::Own, Script::default(), &services, &[]).await;
    let Event::Up(forwards) = stand.told().await else {
        panic!("not up")
    };
    let handle = stand.script.handle.lock().unwrap().clone().unwrap();
    let port = u32::from(forwards[0].port);
    let open = handle.channel_open_forwarded_tcpip("localhost", port, "127.0.0.1", 0);
    let (accepted, opened) = tokio::join!(service.accept(), open);
    let (mut stream, _channel) = (accepted.unwrap().0, opened.unwrap());
    assert!(matches!(stand.told().await, Event::StreamBegan));
    let goodbye = handle.disconnect(Disconnect::ByApplication, String::new(), String::new());
    goodbye.await.unwrap();
    assert!(matches!(
        stand.told().await,
        Event::Down { silent: false, .. }
    ));
    let read = timeout(CEILING, stream.read(&mut [0])).await.unwrap();
    assert!(read.is_err(), "a broken stream is no end of file: {read:?}");
}

/// A service, and a proxy that opens a stream to it before it answers any forward.
async fn early(port: u32) -> (TcpListener, Arc<Notify>, Script) {
    let held = Arc::new(Notify::new());
    let script = Script {
        early: Some(port),
        held: Some(Arc::clone(&held)),
        ..Script::default()
    };
    (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        held,
        script,
    )
}

fn ports(forwards: &[Forward]) -> Vec<u16> {
    forwards.iter().map(|forward| forward.port).collect()
}

#[tokio::test]
async fn a_stream_before_its_forward_is_served_and_tells_the_port() {
    let (service, held, script) = early(50_001).await;
    let services = [("ssh", service.local_addr().unwrap().port())];
    let mut stand = Stand::new(PeerKind::Own, script, &services, &[]).await;
    assert!(matches!(stand.told().await, Event::Up(forwards) if ports(&forwards) == [50_001]));
    assert!(matches!(stand.told().await, Event::StreamBegan));
    let accepted = timeout(CEILING, service.accept()).await.unwrap();
    assert!(stand.asked().is_empty(), "nothing is granted yet");
    held.notify_one();
    accepted.unwrap().0.shutdown().await.unwrap();
    assert!(
        matches!(stand.told().await, Event::StreamEnded),
        "it is not up twice"
    );
    stand.retire.cancel();
    assert!(matches!(stand.told().await, Event::Retired));
    let expected = ["forward localhost:0", "cancel localhost:50001"];
    assert_eq!(stand.asked(), expected);
}

#[tokio::test]
async fn the_port_that_is_granted_is_the_last_word() {
    let (service, held, script) = early(50_009).await;
    let services = [("ssh", service.local_addr().unwrap().port())];
    let mut stand = Stand::new(PeerKind::Own, script, &services, &[]).await;
    assert!(matches!(stand.told().await, Event::Up(forwards) if ports(&forwards) == [50_009]));
    assert!(matches!(stand.told().await, Event::StreamBegan));
    held.notify_one();
    assert!(matches!(stand.told().await, Event::Up(forwards) if ports(&forwards) == [50_001]));
}

#[tokio::test]
async fn a_stream_before_the_ports_are_known_is_served_and_told_of_later() {
    let (service, held, script) = early(50_001).await;
    let port = service.local_addr().unwrap().port();
    let services = [("ssh", port), ("web", 8080)];
    let mut stand = Stand::new(PeerKind::Own, script, &services, &[]).await;
    let accepted = timeout(CEILING, service.accept()).await.unwrap();
    assert!(accepted.is_ok() && stand.events.try_recv().is_err());
    for _ in 0..3 {
        held.notify_one();
        let before = stand.asked().len();
        while stand.asked().len() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let up = stand.told().await;
    assert!(matches!(up, Event::Up(forwards) if ports(&forwards) == [50_001, 50_002]));
    assert!(matches!(stand.told().await, Event::StreamBegan));
}

#[tokio::test]
async fn a_service_sees_that_its_forward_was_refused_after_all() {
    let (service, held, script) = early(50_001).await;
    let script = Script {
        refuses: true,
        ..script
    };
    let services = [("ssh", service.local_addr().unwrap().port())];
    let mut stand = Stand::new(PeerKind::Own, script, &services, &[]).await;
    assert!(matches!(stand.told().await, Event::Up(_)));
    assert!(matches!(stand.told().await, Event::StreamBegan));
    let mut stream = timeout(CEILING, service.accept()).await.unwrap().unwrap().0;
    held.notify_one();
    assert!(matches!(stand.told().await, Event::Down { .. }));
    let read = timeout(CEILING, stream.read(&mut [0])).await.unwrap();
    assert!(read.is_err(), "a broken stream is no end of file: {read:?}");
}

#[tokio::test]
async fn of_a_foreign_proxy_no_stream_is_taken_before_its_forward() {
    let (service, held, script) = early(50_009).await;
    let services = [("ssh", service.local_addr().unwrap().port())];
    let mut stand = Stand::new(PeerKind::Foreign, script, &services, &[]).await;
    held.notify_one();
    assert!(matches!(stand.told().await, Event::Up(forwards) if ports(&forwards) == [50_001]));
    let handle = stand.script.handle.lock().unwrap().clone().unwrap();
    let open = handle.channel_open_forwarded_tcpip("localhost", 50_001, "127.0.0.1", 0);
    let (accepted, opened) = tokio::join!(service.accept(), open);
    assert!(accepted.is_ok() && opened.is_ok());
    assert!(matches!(stand.told().await, Event::StreamBegan));
    assert!(stand.events.try_recv().is_err(), "one stream, and no other");
}

#[test]
fn another_port_is_asked_for_only_by_the_first_connection() {
    let refused = RequestError::Refused {
        reason: "request denied".to_owned(),
    };
    let silent = RequestError::TimedOut { limit: REQUEST };
    for proxy in [PeerKind::Own, PeerKind::Foreign] {
        assert_eq!(after_refusal(&refused, proxy, false, 61333), Next::AnyPort);
        assert_eq!(after_refusal(&refused, proxy, false, 0), Next::Fail);
        assert_eq!(after_refusal(&silent, proxy, false, 61333), Next::Fail);
        assert_eq!(after_refusal(&silent, proxy, true, 61333), Next::Fail);
    }
}
