//! OpenSSH's own programs at either end.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::stream::{Bulk, both_ways, open, receive, send};
use crate::world::{LONG, World, quick};

const MIB: u64 = 1024 * 1024;

/// `ssh -N -R 0:127.0.0.1:PORT`, and the port that it was given.
pub(crate) async fn ssh_member(
    world: &World,
    id: &str,
    service: std::net::SocketAddr,
) -> (Child, u16) {
    world.key(id);
    let mut ssh = world.ssh(id);
    ssh.args(["-N", "-R", &format!("0:{service}"), "127.0.0.1"]);
    let mut ssh = ssh.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ssh.stderr.take().unwrap()).lines();
    let port = timeout(LONG, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("ssh ended");
            if let Some(rest) = line.strip_prefix("Allocated port ") {
                break rest.split(' ').next().unwrap().parse().unwrap();
            }
        }
    })
    .await
    .unwrap();
    world.until("served", |stats| stats.members > 0).await;
    (ssh, port)
}

/// A connection to what `ssh -L SOCKET:…` listens on, as soon as it does. A socket of the file system, because a free port may
/// be somebody else's when `ssh` takes it.
pub(crate) async fn connect_through(socket: &std::path::Path) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return stream,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
        assert!(start.elapsed() < LONG, "ssh does not listen");
    }
}

pub(crate) struct Piped {
    pub(crate) ssh: Child,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
}

/// `ssh -W HOST:PORT`.
pub(crate) fn ssh_stream(world: &World, id: &str, to: &str) -> Piped {
    let mut ssh = world.ssh(id);
    ssh.args(["-W", to, "127.0.0.1"]);
    piped(ssh)
}

fn piped(mut ssh: Command) -> Piped {
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    let (stdin, stdout) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    Piped { ssh, stdin, stdout }
}

impl Piped {
    pub(crate) async fn ping(&mut self) {
        self.stdin.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        timeout(LONG, self.stdout.read_exact(&mut word))
            .await
            .expect("no answer")
            .unwrap();
        assert_eq!(&word, b"ping");
    }

    async fn both_ways(self, count: u64) {
        let Self {
            mut ssh,
            mut stdin,
            mut stdout,
        } = self;
        let sent = async move {
            send(&mut stdin, count).await;
            drop(stdin);
        };
        timeout(LONG, async {
            tokio::join!(sent, receive(&mut stdout, count))
        })
        .await
        .expect("stuck");
        assert!(timeout(LONG, ssh.wait()).await.unwrap().unwrap().success());
    }
}

#[tokio::test]
async fn minus_r_and_minus_w_meet_by_port_and_by_name() {
    let mut world = World::new().await;
    let echo = world.echo().await;
    let (_member, port) = ssh_member(&world, "333.hula.atlas", echo).await;
    world.key("controller.hula.atlas");
    for to in [
        format!("localhost:{port}"),
        "333:22".into(),
        "333.hula.atlas:22".into(),
    ] {
        let mut stream = ssh_stream(&world, "controller.hula.atlas", &to);
        stream.ping().await;
        drop(stream.stdin);
        assert!(
            timeout(LONG, stream.ssh.wait())
                .await
                .unwrap()
                .unwrap()
                .success()
        );
        world.until("closed", |stats| stats.streams == 0).await;
    }
    assert_eq!((world.stats().members, world.stats().tunnels), (1, 1));
}

#[tokio::test]
async fn a_name_and_a_fixed_port_are_forwarded_as_they_are_asked_for() {
    let mut world = World::new().await;
    let echo = world.echo().await;
    world.key("333.hula.atlas");
    let mut ssh = world.ssh("333.hula.atlas");
    ssh.args([
        "-N",
        "-R",
        &format!("333:80:{echo}"),
        "-R",
        &format!("20022:{echo}"),
        "127.0.0.1",
    ]);
    let _member = ssh.spawn().unwrap();
    let controller = world.controller("controller.hula.atlas").await;
    open(&controller, "333", 80).await.unwrap().ping().await;
    open(&controller, "localhost", 20_022)
        .await
        .unwrap()
        .ping()
        .await;
}

#[tokio::test]
async fn minus_l_carries_many_connections() {
    let mut world = World::new().await;
    let echo = world.echo().await;
    let (_member, port) = ssh_member(&world, "333.hula.atlas", echo).await;
    world.key("controller.hula.atlas");
    let socket = world.home.path().join("forwarded");
    let mut ssh = world.ssh("controller.hula.atlas");
    let forward = format!("{}:localhost:{port}", socket.display());
    ssh.args(["-N", "-L", &forward, "127.0.0.1"]);
    let _listener = ssh.spawn().unwrap();
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(connect_through(&socket).await);
    }
    let each = streams.into_iter().map(|mut socket| async move {
        let (mut read, mut write) = socket.split();
        tokio::join!(send(&mut write, MIB), receive(&mut read, MIB));
    });
    timeout(LONG, futures_util::future::join_all(each))
        .await
        .expect("stuck");
    world.until("closed", |stats| stats.streams == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_duplex_in_every_pairing_of_ends() {
    const COUNT: u64 = 24 * MIB;
    let mut world = World::new().await;
    let echo = world.echo().await;
    let key = world.key("334.hula.atlas");
    let own_port = world
        .agent("334.hula.atlas", &key, "localhost", 0, echo)
        .await;
    let (_member, ssh_port) = ssh_member(&world, "333.hula.atlas", echo).await;
    world.key("controller-ssh.hula.atlas");
    let controller = world.controller("controller-own.hula.atlas").await;
    for port in [own_port, ssh_port] {
        ssh_stream(
            &world,
            "controller-ssh.hula.atlas",
            &format!("localhost:{port}"),
        )
        .both_ways(COUNT)
        .await;
        let stream = open(&controller, "localhost", port).await.unwrap();
        both_ways(stream, COUNT).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_of_an_openssh_member_disturbs_no_other_controller() {
    const COUNT: u64 = 48 * MIB;
    let mut world = World::new().await;
    let bulk = Bulk::start(&mut world, COUNT).await;
    let (_member, port) = ssh_member(&world, "333.hula.atlas", bulk.address).await;
    world.key("controller-ssh.hula.atlas");
    let lazy = world.controller("controller-lazy.hula.atlas").await;
    let busy = world.controller("controller-busy.hula.atlas").await;
    let mut stalled = open(&lazy, "localhost", port).await.unwrap();
    let mut ssh_stalled = ssh_stream(
        &world,
        "controller-ssh.hula.atlas",
        &format!("localhost:{port}"),
    );
    stalled.pipe.write_all(b"s").await.unwrap();
    ssh_stalled.stdin.write_all(b"s").await.unwrap();
    bulk.is_full(2, 2 * COUNT).await;
    let mut other = open(&busy, "localhost", port).await.unwrap();
    other.pipe.write_all(b"e").await.unwrap();
    for _ in 0..50 {
        assert!(other.ping().await < Duration::from_secs(10), "slow");
    }
    let (mut read, mut write) = tokio::io::split(stalled.pipe);
    // Both, because they share the member's windows.
    let resumed = async {
        tokio::join!(
            receive(&mut read, COUNT),
            receive(&mut ssh_stalled.stdout, COUNT)
        )
    };
    timeout(LONG, resumed).await.expect("they never resume");
    write.shutdown().await.unwrap();
    other.ping().await;
}

#[tokio::test]
async fn a_session_is_told_that_there_is_no_shell() {
    let world = World::new().await;
    world.key("333.hula.atlas");
    for arguments in [
        &["127.0.0.1"][..],
        &["127.0.0.1", "id"],
        &["-s", "127.0.0.1", "sftp"],
        &["-tt", "127.0.0.1"],
    ] {
        let mut ssh = world.ssh("333.hula.atlas");
        let output = timeout(LONG, ssh.args(arguments).output())
            .await
            .expect("hangs")
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("It has no shell"), "{arguments:?}: {told}");
    }
}

#[tokio::test]
async fn refusals_reach_the_person() {
    let world = World::with(quick()).await;
    world.key("controller.hula.atlas");
    world.strangers_key("controller-x.hula.atlas");
    let refused = |id: &str, arguments: &[&str]| {
        let mut ssh = world.ssh(id);
        ssh.args(arguments);
        async move {
            let output = timeout(LONG, ssh.output()).await.expect("hangs").unwrap();
            assert!(!output.status.success());
            String::from_utf8_lossy(&output.stderr).into_owned()
        }
    };
    let told = refused("controller.hula.atlas", &["-W", "333:22", "127.0.0.1"]).await;
    assert!(
        told.contains("there is no such tunnel, or it is not for you"),
        "{told}"
    );
    let told = refused(
        "controller.hula.atlas",
        &["-N", "-R", "0:localhost:22", "127.0.0.1"],
    )
    .await;
    assert!(told.contains("remote port forwarding failed"), "{told}");
    let told = refused("controller-x.hula.atlas", &["-N", "127.0.0.1"]).await;
    assert!(told.contains("Permission denied (publickey)"), "{told}");
}

#[tokio::test]
async fn minus_j_reaches_a_real_sshd_through_both() {
    let mut world = World::new().await;
    let home = world.home.path().to_owned();
    for name in ["sshd_key", "user_key"] {
        let path = home.join(name);
        let made = Command::new("/usr/bin/ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&path)
            .status()
            .await
            .unwrap();
        assert!(made.success());
    }
    fs::copy(home.join("user_key.pub"), home.join("authorized_keys")).unwrap();
    let at = |name: &str| home.join(name).display().to_string();
    fs::write(
        home.join("sshd_config"),
        format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nLogLevel ERROR\n",
            at("sshd_key"),
            at("authorized_keys")
        ),
    )
    .unwrap();
    let config = at("sshd_config");
    // One sshd for each connection, on its socket, so that no port has to be found for it.
    let sshd = world
        .service(move |socket| {
            let config = config.clone();
            async move {
                let socket = socket.into_std().unwrap();
                socket.set_nonblocking(false).unwrap();
                let output = socket.try_clone().unwrap();
                let mut sshd = Command::new("/usr/sbin/sshd");
                sshd.args(["-i", "-f", &config]);
                sshd.stdin(std::os::fd::OwnedFd::from(socket))
                    .stdout(std::os::fd::OwnedFd::from(output));
                sshd.kill_on_drop(true)
                    .spawn()
                    .unwrap()
                    .wait()
                    .await
                    .unwrap();
            }
        })
        .await;
    let (_member, _) = ssh_member(&world, "333.hula.atlas", sshd).await;
    world.key("controller.hula.atlas");
    let known = fs::read_to_string(at("known_hosts")).unwrap();
    fs::write(
        at("known_hosts"),
        format!(
            "{known}333 {}",
            fs::read_to_string(at("sshd_key.pub")).unwrap()
        ),
    )
    .unwrap();
    let user =
        String::from_utf8(Command::new("id").arg("-un").output().await.unwrap().stdout).unwrap();
    fs::write(
        home.join("ssh_config"),
        format!(
            "UserKnownHostsFile {}\nBatchMode yes\nIdentityAgent none\nIdentitiesOnly yes\n\
             Host the-proxy\n HostName 127.0.0.1\n Port {}\n User hula\n IdentityFile {}\n\
             Host 333\n HostKeyAlias 333\n User {user} IdentityFile {}\n ProxyJump the-proxy\n",
            at("known_hosts"),
            world.address.port(),
            at("controller.hula.atlas"),
            at("user_key"),
        ),
    )
    .unwrap();
    let mut ssh = Command::new("/usr/bin/ssh");
    ssh.args(["-F", &at("ssh_config"), "333", "wc -c; exit 7"]);
    ssh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut ssh = ssh.spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let feed = async move {
        send(&mut stdin, 8 * MIB).await;
        drop(stdin);
    };
    let ((), output) = timeout(LONG, async { tokio::join!(feed, ssh.wait_with_output()) })
        .await
        .expect("hangs");
    let output = output.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        (8 * MIB).to_string()
    );
    assert_eq!(output.status.code(), Some(7));
}

#[tokio::test]
async fn an_idle_member_answers_and_a_frozen_one_is_gone_in_seconds() {
    let mut world = World::new().await;
    let echo = world.echo().await;
    let (member, _) = ssh_member(&world, "333.hula.atlas", echo).await;
    // Longer than a silent peer is allowed to be.
    sleep(Duration::from_secs(11)).await;
    assert_eq!(world.stats().members, 1, "it had answered");
    let pid = member.id().unwrap().to_string();
    let stop = |signal: &'static str| Command::new("kill").args([signal, &pid]).status();
    assert!(stop("-STOP").await.unwrap().success());
    world.until("gone", |stats| stats.members == 0).await;
    assert!(stop("-CONT").await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_exchanges_in_the_middle_lose_nothing() {
    const COUNT: u64 = 16 * MIB;
    let mut world = World::new().await;
    let echo = world.echo().await;
    world.key("333.hula.atlas");
    let mut member = world.ssh("333.hula.atlas");
    member.args([
        "-o",
        "RekeyLimit=1M",
        "-N",
        "-R",
        &format!("20022:{echo}"),
        "127.0.0.1",
    ]);
    let _member = member.spawn().unwrap();
    world.until("served", |stats| stats.members > 0).await;
    world.key("controller.hula.atlas");
    let mut ssh = world.ssh("controller.hula.atlas");
    ssh.args(["-o", "RekeyLimit=1M", "-W", "localhost:20022", "127.0.0.1"]);
    piped(ssh).both_ways(COUNT).await;
}
