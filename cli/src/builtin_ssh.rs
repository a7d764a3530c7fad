//! The agent's own ssh: what it is made of, and the processes that it starts.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use agent::Builtin;
use daemon::device_dir::{DeviceDir, Membership};
use daemon::service::ForwardingFile;
use daemon::shutdown::Shutdown;
use enrollment::ssh_key::{self, SshKeyError, bare_line};
use shell::begin::{Begin, begin, own_session};
use shell::{Controllers, Forwarding, Server, Settings, User};
use tokio::net::UnixStream;

use crate::arguments::Session;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
use crate::keys::builtin_file;
use crate::keys::controller_keys::ControllerKeys;

/// The service that `device.toml` asks for, if it does. Its host key is made if there is none. A `check` makes none that
/// stays, and may be somebody else's than the agent's user.
pub(crate) async fn prepare(
    dir: &DeviceDir,
    membership: &Membership,
    check: bool,
) -> Result<Option<Arc<dyn Builtin>>, Failure> {
    let device = &membership.device;
    if !device.serves_ssh() {
        return Ok(None);
    }
    if rustix::process::geteuid().is_root() && !device.builtin.as_root && !check {
        return Err(Failure::text(
            "the built-in ssh would let controllers in as root",
            Some(
                "run the agent as another user, or say that it is meant: `as_root = true` below `[builtin]` in device.toml",
            ),
            exit::CONFIG,
        ));
    }
    let user = own_user().await?;
    let name = membership.id.to_string();
    let host_key = dir.builtin_host_key();
    let host_key = if check {
        ssh_key::load_or_make_up(&host_key)
    } else {
        ssh_key::load_or_create(&host_key, &name)
    };
    let host_key = host_key.map_err(unusable)?;
    let public = bare_line(&host_key).map_err(unusable)?;
    let controllers = Controllers::new(dir.controllers());
    if !controllers.path().exists() {
        tracing::warn!(
            file = %controllers.path().display(),
            "nobody can log in to the built-in ssh before there are keys: `tunnel agent sync-keys --builtin` brings them"
        );
    }
    let server = Server::new(Settings {
        host_key,
        controllers,
        user,
        forwarding: match device.builtin.forwarding {
            ForwardingFile::None => Forwarding::None,
            ForwardingFile::Loopback => Forwarding::Loopback,
            ForwardingFile::Anywhere => Forwarding::Anywhere,
        },
    });
    Ok(Some(Arc::new(Service { server, public })))
}

/// Brings the keys of the controllers as often as `device.toml` says, if it says so.
pub(crate) fn keep_keys(
    dir: &DeviceDir,
    membership: Membership,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let device = &membership.device;
    let Some(every) = device.builtin.sync_keys.filter(|_| device.serves_ssh()) else {
        return Ok(());
    };
    let file = dir.controllers();
    let keys = ControllerKeys::open(dir, membership)?;
    let stop = shutdown.clone();
    shutdown.spawn(async move { builtin_file::keep(keys, &file, every, &stop).await });
    Ok(())
}

/// A process of the service becomes its user's shell.
pub(crate) fn session(arguments: Session) -> Result<u8, Failure> {
    let Session {
        terminal,
        command,
        shell,
        home,
    } = arguments;
    let error = begin(&Begin {
        terminal,
        shell,
        command,
        home,
    });
    Err(Failure::new(error, None, CANNOT_RUN))
}

/// A process of the service is the file server.
pub(crate) fn sftp() -> Result<u8, Failure> {
    own_session(false).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    // As sshd does: a home that is not there is no reason to lock its user out.
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
    if std::env::set_current_dir(Path::new(&home)).is_err() {
        let _ = std::env::set_current_dir("/");
    }
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    shell::sftp::serve(input, output)
        .map(|()| exit::OK)
        .map_err(|error| Failure::new(error, None, exit::FAILURE))
}

fn unusable(error: SshKeyError) -> Failure {
    let hint = error.hint();
    Failure::new(error, hint, exit::CONFIG)
}

/// Who runs the agent, and so who is logged in.
async fn own_user() -> Result<User, Failure> {
    let account = Account::own().await?.ok_or_else(|| {
        Failure::text(
            "this computer does not know the user who runs the agent",
            Some("the built-in ssh logs people in as that user: run the agent as one who is known"),
            exit::CONFIG,
        )
    })?;
    Ok(User {
        name: account.name,
        uid: account.uid,
        home: account.home,
        shell: account.shell,
    })
}

/// The service as the agent knows it.
struct Service {
    server: Server,
    public: String,
}

impl Builtin for Service {
    fn serve<'a>(
        &'a self,
        socket: UnixStream,
        originator: &'a str,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.server.serve(socket, originator))
    }

    fn host_key(&self) -> String {
        self.public.clone()
    }
}

/// What shells exit with when a command cannot be run.
const CANNOT_RUN: u8 = 126;
