//! One realm for one test.

use std::path::PathBuf;

use daemon::realm_dir::RealmDir;
use enrollment::{Directory, Entry, Kind, Registry, Title, UploadPermission};
use protocol::{ClientIdSuffix, DeviceId};
use signer::{Authority, Signer};
use tempfile::TempDir;

use crate::openssl::{P256, request};

/// A realm `atlas` in a temporary directory.
pub(crate) struct World {
    home: TempDir,
    /// Its registry.
    pub(crate) registry: Directory,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::create(&"atlas".parse().unwrap()).unwrap();
        authority.save(&home.path().join("ca")).unwrap();
        let registry = Directory::create(home.path().join("registry")).unwrap();
        Self { home, registry }
    }

    /// A path in the realm's home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::load(&self.path("ca")).unwrap()
    }

    pub(crate) fn authority_pem(&self) -> String {
        self.authority().certificate_pem().to_owned()
    }

    pub(crate) fn signer(&self) -> Signer {
        self.signer_permitting(UploadPermission::everyone_with_write_access())
    }

    pub(crate) fn signer_permitting(&self, permission: UploadPermission) -> Signer {
        let directory = RealmDir::new(self.home.path());
        Signer::new(
            self.authority(),
            ClientIdSuffix::default(),
            permission,
            &directory,
        )
        .unwrap()
    }

    /// How many certificates have ever been issued. A record that is just being written anew, as when its certificate was
    /// delivered, has a second file for a moment.
    pub(crate) fn issued(&self) -> usize {
        let files = std::fs::read_dir(self.path("signer")).unwrap();
        let names = files.map(|file| file.unwrap().file_name());
        names
            .filter(|name| !name.to_string_lossy().starts_with('.'))
            .count()
    }

    pub(crate) async fn put(&self, title: &str, body: &str) {
        self.registry
            .put(&title.parse().unwrap(), body)
            .await
            .unwrap();
    }

    /// Puts a good request of a device there, and returns it.
    pub(crate) async fn put_request(&self, name: &str) -> String {
        let csr = request(&P256, &subject(name), &[]);
        self.put(&format!("{name}.x509.csr"), &csr).await;
        csr
    }

    pub(crate) async fn certificate(&self, id: &str) -> Option<String> {
        let title = Title::new(id.parse().unwrap(), Kind::Certificate);
        self.registry
            .get(&title)
            .await
            .unwrap()
            .and_then(|entry| entry.body.ok())
    }

    pub(crate) async fn requests(&self) -> Vec<Entry> {
        self.registry.list(Kind::CertificateRequest).await.unwrap()
    }
}

pub(crate) fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

/// The subject of a device in `openssl req -subj`'s form.
pub(crate) fn subject(text: &str) -> String {
    let id = id(text);
    format!("/CN={id}/OU={}/O={}", id.device(), id.system())
}
