//! What SIGHUP reads again beside the broker's files, which have a watcher of their own.

use daemon::realm_dir::RealmDir;
use daemon::realm_file::RealmFile;
use daemon::server_file::ServerFile;

use crate::failure::Failure;
use crate::host_key;

/// The files of a realm that runs.
pub(super) struct Reread {
    dir: RealmDir,
    file: RealmFile,
    server: ServerFile,
    proxy: Option<proxy::Settings>,
}

impl Reread {
    /// Those of this realm, as they were when it began.
    pub(super) fn new(
        dir: RealmDir,
        file: RealmFile,
        server: ServerFile,
        proxy: Option<proxy::Settings>,
    ) -> Self {
        Self {
            dir,
            file,
            server,
            proxy,
        }
    }

    /// Takes over what may change, and says of the rest that it takes a restart. What cannot be used changes nothing.
    pub(super) fn read(&self) {
        if let Err(failure) = self.try_read() {
            let failure = failure.to_string().replace('\n', "; ");
            tracing::error!("files cannot be used, and the last good ones stay in use: {failure}");
        }
    }

    fn try_read(&self) -> Result<(), Failure> {
        let server = ServerFile::load(&self.dir.server_file())?;
        let file = RealmFile::load(&self.dir.realm_file())?;
        if let Some(proxy) = &self.proxy {
            let keys = host_key::load(&self.dir)?;
            proxy
                .show_host_keys(keys)
                .map_err(|error| Failure::new(error, None, crate::exit::CONFIG))?;
            proxy.limit_bandwidth(server.proxy.bandwidth.clone());
            tracing::info!("the proxy's host keys and rates have been read again");
        }
        if fixed(&server) != fixed(&self.server) {
            tracing::warn!(
                "`server.toml`: what has changed beside `[proxy.bandwidth]` takes a restart"
            );
        }
        if lasting(&file) != lasting(&self.file) {
            tracing::warn!("`realm.toml`: another realm, suffix or registry takes a restart");
        }
        Ok(())
    }
}

/// What of `server.toml` is read at the start alone.
fn fixed(server: &ServerFile) -> ServerFile {
    let mut fixed = server.clone();
    fixed.proxy.bandwidth.clear();
    fixed
}

/// What of `realm.toml` the realm's own parts read at the start alone.
fn lasting(file: &RealmFile) -> impl PartialEq {
    (
        file.realm.clone(),
        file.client_id_suffix.clone(),
        file.registry.clone(),
        file.signed_by,
    )
}
