//! A broker whose files the test changes while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use broker::{Broker, Limits, Pem, ReloadBell};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use tempfile::TempDir;

use crate::world::{Authority, Identity, World, config};

/// The files, and the bell that has them read at once.
pub(crate) struct Files {
    folder: TempDir,
    pub(crate) bell: ReloadBell,
}

impl Files {
    /// A running broker with the files of one authority, without a revocation list and without policies of its own.
    pub(crate) fn serve(limits: Limits) -> (Self, World) {
        let authority = Authority::new("atlas");
        let mut files = Self {
            folder: tempfile::tempdir().unwrap(),
            bell: ReloadBell::default(),
        };
        fs::create_dir(files.policies()).unwrap();
        files.show(&server(&authority));
        files.trust(&authority.pem());
        let mut config = config(&authority, "", limits);
        config.certificates = Pem::File(files.path("server.cert"));
        config.key = Pem::File(files.path("server.key"));
        config.client_authorities = Pem::File(files.path("ca.pem"));
        config.revocations = Some(files.list());
        config.policies = Some(files.policies());
        let broker = Broker::bind(config).unwrap();
        files.bell = broker.reload_bell();
        (files, World::of(authority, broker))
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.path("crl.pem")
    }

    pub(crate) fn policies(&self) -> PathBuf {
        self.path("policies")
    }

    /// The broker's certificate and key.
    pub(crate) fn show(&self, identity: &Identity) {
        self.certificate(&identity.certificate);
        self.key(&identity.key);
    }

    pub(crate) fn certificate(&self, text: &str) {
        write(&self.path("server.cert"), text);
    }

    pub(crate) fn key(&self, text: &str) {
        write(&self.path("server.key"), text);
    }

    /// The authorities that sign for devices.
    pub(crate) fn trust(&self, text: &str) {
        write(&self.path("ca.pem"), text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A broker's certificate.
pub(crate) fn server(authority: &Authority) -> Identity {
    authority.sign(
        &[(DnType::CommonName, "broker")],
        ExtendedKeyUsagePurpose::ServerAuth,
    )
}

fn write(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, PermissionsExt::from_mode(0o600)).unwrap();
    fs::rename(next, path).unwrap();
}
