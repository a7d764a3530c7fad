//! What the demo's remote computer offers: a real sshd of its own if there is one, otherwise the agent's own ssh.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use daemon::device_file::DeviceFile;
use daemon::files;
use daemon::host_port::HostPort;
use daemon::service::Service;
use enrollment::ssh_key;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{free_port, loopback};
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
use crate::runtime::cannot;

/// How one logs in to the demo's remote computer.
pub(super) struct Remote {
    user: String,
    kind: Kind,
}

enum Kind {
    Sshd(Box<Sshd>),
    /// The agent itself, for whoever has this public key.
    Builtin {
        authorized: PathBuf,
    },
}

struct Sshd {
    child: Child,
    address: HostPort,
    host_key: PathBuf,
}

impl Remote {
    /// Starts an sshd as the present user, into which only the owner of that public key can log in; where there is none, the
    /// agent's own ssh is to be one.
    pub(super) async fn start(dir: &Path, authorized: &Path) -> Result<Self, Failure> {
        let account = Account::own().await?.ok_or_else(|| {
            Failure::text(
                "this computer does not know the user who runs the demo",
                None,
                exit::CONFIG,
            )
        })?;
        let kind = match find_sshd() {
            Some(sshd) => start_sshd(&sshd, dir, authorized).await?,
            None => Kind::Builtin {
                authorized: authorized.to_owned(),
            },
        };
        Ok(Self {
            user: account.name,
            kind,
        })
    }

    /// Writes the device's file so that it offers this.
    pub(super) fn configure(&self, device: &DeviceDir) -> Result<(), Failure> {
        let path = device.device_file();
        let mut file =
            DeviceFile::load(&path).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        let service = match &self.kind {
            Kind::Sshd(sshd) => {
                file.host_keys = Some(vec![sshd.host_key.with_extension("pub")]);
                Service::At(sshd.address.clone())
            }
            Kind::Builtin { authorized } => {
                file.builtin.as_root = rustix::process::geteuid().is_root();
                let key = files::read_bounded(authorized, MAX_KEY)?;
                files::write_private(&device.controllers(), &key)?;
                Service::Builtin
            }
        };
        for offered in file.services.values_mut() {
            *offered = service.clone();
        }
        let text =
            toml::to_string(&file).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        Ok(files::write_private(&path, text.as_bytes())?)
    }

    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Sshd(sshd) => format!("the remote computer's sshd, on {}", sshd.address),
            Kind::Builtin { .. } => {
                "the remote computer has no sshd: its agent will be the ssh server".to_owned()
            }
        }
    }

    /// Who can log in.
    pub(super) fn user(&self) -> &str {
        &self.user
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

async fn start_sshd(sshd: &Path, dir: &Path, authorized: &Path) -> Result<Kind, Failure> {
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
    let mut sshd = Box::new(Sshd {
        child,
        address: loopback(port)?,
        host_key,
    });
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(START, listens).await.is_ok() {
        return Ok(Kind::Sshd(sshd));
    }
    super::end(&mut sshd.child).await;
    Err(Failure::text(
        format!("sshd did not listen within {START:?}"),
        Some("run `sshd -t` to see what it lacks"),
        exit::FAILURE,
    ))
}

const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// How long the service may take to listen.
const START: Duration = Duration::from_secs(10);

/// The longest public key, in bytes.
const MAX_KEY: usize = 16 * 1024;
