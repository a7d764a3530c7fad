//! The service with clients of every kind at the other end of its sockets, in one process.

mod memory;
mod places;
mod requests;
mod signals;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{Config, DisconnectReason, Handle, Handler, Msg, connect_stream};
use russh::keys::key::safe_rng;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;

/// A service, and the key of a controller that may log in to it.
struct World {
    server: Server,
    serving: JoinSet<()>,
    key: Arc<PrivateKey>,
    _home: TempDir,
}

/// A client that takes whatever it is told.
struct Client {
    handle: Handle<Peer>,
    /// Why the server has ended the connection.
    farewell: Arc<Mutex<Option<String>>>,
}

struct Peer(Arc<Mutex<Option<String>>>);

impl World {
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let key = || PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519);
        let ours = Arc::new(key().unwrap());
        let controllers = home.path().join("controllers");
        fs::write(&controllers, ours.public_key().to_openssh().unwrap()).unwrap();
        fs::set_permissions(&controllers, fs::Permissions::from_mode(0o600)).unwrap();
        let executable = home.path().join("tunnel");
        fs::write(&executable, PROGRAM).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o700)).unwrap();
        let settings = Settings {
            host_key: key().unwrap(),
            controllers: Controllers::new(controllers),
            user: User {
                name: USER.to_owned(),
                uid: 1000,
                home: home.path().to_owned(),
                shell: "/bin/sh".into(),
            },
            forwarding: Forwarding::Loopback,
        };
        Self {
            server: Server::within(limits, settings, executable),
            serving: JoinSet::new(),
            key: ours,
            _home: home,
        }
    }

    /// A stream to the service from this controller.
    fn stream(&mut self, from: &str) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        let (server, from) = (self.server.clone(), format!("{from}.hula.atlas:1"));
        self.serving
            .spawn(async move { server.serve(far, &from).await });
        near
    }

    /// One that speaks ssh, and has not logged in.
    async fn stranger(&mut self, from: &str, config: Config) -> Client {
        let stream = self.stream(from);
        let farewell = Arc::new(Mutex::new(None));
        let peer = Peer(Arc::clone(&farewell));
        let handle = within(connect_stream(Arc::new(config), stream, peer)).await;
        Client {
            handle: handle.unwrap(),
            farewell,
        }
    }

    async fn login_with(&mut self, from: &str, config: Config) -> Client {
        let mut client = self.stranger(from, config).await;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let login = client.handle.authenticate_publickey(USER, key);
        assert!(within(login).await.unwrap().success());
        client
    }

    async fn login(&mut self) -> Client {
        self.login_with("controller-x", Config::default()).await
    }
}

impl Client {
    async fn session(&self) -> Channel<Msg> {
        within(self.handle.channel_open_session()).await.unwrap()
    }

    /// A session that runs this.
    async fn exec(&self, command: &str) -> Channel<Msg> {
        let channel = self.session().await;
        channel.exec(true, command).await.unwrap();
        channel
    }

    /// A stream to this port of the computer.
    async fn stream_to(&self, port: u32) -> Result<Channel<Msg>, russh::Error> {
        let host = "127.0.0.1";
        within(self.handle.channel_open_direct_tcpip(host, port, host, 1)).await
    }

    async fn until_closed(&self) {
        until("the connection to be closed", || self.handle.is_closed()).await;
    }

    /// Waits for the end, and says what reason the server has told.
    async fn told(&self) -> String {
        self.until_closed().await;
        until("a reason", || self.farewell.lock().unwrap().is_some()).await;
        self.farewell.lock().unwrap().clone().unwrap()
    }
}

impl Handler for Peer {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        if let DisconnectReason::ReceivedDisconnect(told) = reason {
            *self.0.lock().unwrap() = Some(told.message);
        }
        Ok(())
    }
}

/// Reads both outputs until they hold this, or to their end.
async fn read_until(channel: &mut Channel<Msg>, text: &str) -> String {
    let mut said = String::new();
    while !said.contains(text) {
        match within(channel.wait()).await {
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                said.push_str(&String::from_utf8_lossy(&data));
            }
            Some(_) => {}
            None => panic!("it has ended with {said:?} before {text:?}"),
        }
    }
    said
}

/// Reads to the end: what it has said, and the code that it has ended with.
async fn finish(channel: &mut Channel<Msg>) -> (String, Option<u32>) {
    let (mut said, mut code) = (String::new(), None);
    while let Some(message) = within(channel.wait()).await {
        if let ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } = message {
            said.push_str(&String::from_utf8_lossy(&data));
        } else if let ChannelMsg::ExitStatus { exit_status } = message {
            code = Some(exit_status);
        }
    }
    (said, code)
}

/// The next answer to a request.
async fn is_granted(channel: &mut Channel<Msg>) -> bool {
    loop {
        match within(channel.wait()).await {
            Some(ChannelMsg::Success) => return true,
            Some(ChannelMsg::Failure) => return false,
            Some(_) => {}
            None => panic!("the channel is closed"),
        }
    }
}

/// A session that gives back what it is given.
async fn echoes(client: &Client) -> Channel<Msg> {
    let mut channel = client.exec("cat").await;
    echo(&mut channel, "up").await;
    channel
}

async fn echo(channel: &mut Channel<Msg>, text: &str) {
    channel.data_bytes(text.to_owned()).await.unwrap();
    read_until(channel, text).await;
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let came = timeout(CEILING, wait).await;
    assert!(came.is_ok(), "waited in vain for {what}");
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(CEILING, future).await.expect("it takes too long")
}

const CEILING: Duration = Duration::from_secs(30);

const USER: &str = "atlas";

/// In place of `tunnel builtin-ssh`, which this test program is not: a session of its own, and the command in it.
const PROGRAM: &str = r#"#!/bin/sh
for word; do
    case "$word" in --command=*) exec setsid sh -c "${word#--command=}" ;; esac
done
exit 1
"#;
