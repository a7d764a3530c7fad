//! What the demo's remote computer offers: a real sshd of its own if there is one, otherwise a small service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daemon::device_file::{DEVICE_FILE, DeviceFile};
use daemon::service::Service;
use daemon::{files, host_port::HostPort};
use enrollment::ssh_key;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{free_port, loopback};
use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// The service behind the demo's tunnel.
pub(super) struct Remote {
    address: HostPort,
    user: String,
    kind: Kind,
}

enum Kind {
    Sshd(Box<Sshd>),
    // Dropped with it, and its task with it.
    Greeting { _task: JoinSet<()> },
}

struct Sshd {
    child: Child,
    host_key: PathBuf,
}

impl Remote {
    /// Starts an sshd as the present user, into which only the owner of that public key can log in.
    pub(super) async fn start(dir: &Path, authorized: &Path) -> Result<Self, Failure> {
        match find_sshd() {
            Some(sshd) => start_sshd(&sshd, dir, authorized).await,
            None => start_greeting().await,
        }
    }

    /// Writes the device's file so that it offers this.
    pub(super) fn configure(&self, device: &Path) -> Result<(), Failure> {
        let path = device.join(DEVICE_FILE);
        let mut file =
            DeviceFile::load(&path).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        for address in file.services.values_mut() {
            *address = Service::At(self.address.clone());
        }
        file.host_keys = Some(match &self.kind {
            Kind::Sshd(sshd) => vec![sshd.host_key.with_extension("pub")],
            Kind::Greeting { .. } => Vec::new(),
        });
        let text =
            toml::to_string(&file).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        Ok(files::write_private(&path, text.as_bytes())?)
    }

    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Sshd(_) => format!("the remote computer's sshd, on {}", self.address),
            Kind::Greeting { .. } => format!(
                "there is no sshd here (install `openssh-server`), so a small service stands in for it, on {}",
                self.address
            ),
        }
    }

    /// Who can log in, if it is an sshd.
    pub(super) fn sshd_user(&self) -> Option<&str> {
        match self.kind {
            Kind::Sshd(_) => Some(&self.user),
            Kind::Greeting { .. } => None,
        }
    }

    pub(super) async fn end(self) {
        if let Kind::Sshd(mut sshd) = self.kind {
            super::end(&mut sshd.child).await;
        }
    }
}

/// The first sshd of the search path, or of the usual folders when that has no folder of an administrator's, as for most
/// users.
fn find_sshd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if folders.iter().any(|folder| folder.ends_with("bin")) {
        folders.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    }
    folders
        .into_iter()
        .map(|folder| folder.join("sshd"))
        .find(|file| file.is_file())
}

async fn start_sshd(sshd: &Path, dir: &Path, authorized: &Path) -> Result<Remote, Failure> {
    let port = free_port().await?;
    let host_key = dir.join("host_key");
    ssh_key::load_or_create(&host_key, "demo")
        .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    if rustix::process::geteuid().is_root() {
        // As root sshd wants this directory, which its service usually makes. It stays: another sshd may use it by now.
        let _ = std::fs::create_dir(PRIVILEGE_SEPARATION);
    }
    let config = dir.join("sshd_config");
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
        host_key.display(),
        authorized.display(),
    );
    files::write_private(&config, text.as_bytes())?;
    let child = Command::new(sshd)
        .args(["-D", "-e", "-f"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot("start sshd", error))?;
    let remote = Remote {
        address: loopback(port)?,
        user: user()?,
        kind: Kind::Sshd(Box::new(Sshd { child, host_key })),
    };
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(START, listens).await.is_ok() {
        return Ok(remote);
    }
    remote.end().await;
    Err(Failure::text(
        format!("sshd did not listen within {START:?}"),
        Some("run `sshd -t` to see what it lacks"),
        exit::FAILURE,
    ))
}

/// The name of the user that sshd runs as, which is the only one that it can log in.
fn user() -> Result<String, Failure> {
    let output = std::process::Command::new("id")
        .arg("-un")
        .output()
        .map_err(|error| cannot("ask `id` for the user's name", error))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn start_greeting() -> Result<Remote, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|error| cannot("listen on 127.0.0.1", error))?;
    let address: SocketAddr = listener
        .local_addr()
        .map_err(|error| cannot("listen on 127.0.0.1", error))?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // Whoever does not read the greeting does not get it; the next one does.
            let _ = timeout(START, socket.write_all(b"hello from the remote computer\n")).await;
        }
    });
    Ok(Remote {
        address: loopback(address.port())?,
        user: "you".to_owned(),
        kind: Kind::Greeting { _task: task },
    })
}

const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// How long the service may take to listen.
const START: Duration = Duration::from_secs(10);
