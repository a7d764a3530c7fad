//! A realm's directory on its server: where its keys, certificates and files lie.

use std::path::{Path, PathBuf};

use crate::realm_file::REALM_FILE;

/// The directory that `tunnel realm init` makes. Parts of it may be on different hosts: the authority's key is only needed
/// where the signer runs.
#[derive(Clone, Debug)]
pub struct RealmDir {
    path: PathBuf,
}

impl RealmDir {
    /// The directory at this path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `realm.toml`, which is handed to everybody.
    pub fn realm_file(&self) -> PathBuf {
        self.path.join(REALM_FILE)
    }

    /// `server.toml`, which says what listens where.
    pub fn server_file(&self) -> PathBuf {
        self.path.join("server.toml")
    }

    /// The authority's key and certificate.
    pub fn authority(&self) -> PathBuf {
        self.path.join("ca")
    }

    /// The certificate revocation list.
    pub fn crl(&self) -> PathBuf {
        self.authority().join("crl.pem")
    }

    /// The realm's own policies, if it has some.
    pub fn policies(&self) -> PathBuf {
        self.path.join("policies")
    }

    /// The broker's key.
    pub fn broker_key(&self) -> PathBuf {
        self.path.join("broker").join("server.key")
    }

    /// The broker's certificate.
    pub fn broker_certificate(&self) -> PathBuf {
        self.path.join("broker").join("server.cert")
    }

    /// What outlives the broker, if it is kept nowhere else.
    pub fn broker_store(&self) -> PathBuf {
        self.path.join("broker").join("store")
    }

    /// The proxy's host key.
    pub fn proxy_host_key(&self) -> PathBuf {
        self.path.join("proxy").join("hostkey")
    }

    /// The proxy's next host key, if it is announced.
    pub fn proxy_next_host_key(&self) -> PathBuf {
        self.path.join("proxy").join("hostkey.next")
    }

    /// A host key of another type, for clients that do not know Ed25519.
    pub fn proxy_extra_host_key(&self, kind: &str) -> PathBuf {
        self.path.join("proxy").join(format!("hostkey.{kind}"))
    }

    /// The devices' public keys, if the proxy does not read them in the registry.
    pub fn proxy_keys(&self) -> PathBuf {
        self.path.join("proxy").join("keys")
    }

    /// The registry, if it is a directory here.
    pub fn registry(&self) -> PathBuf {
        self.path.join("registry")
    }

    /// What the signer remembers.
    pub fn signer(&self) -> PathBuf {
        self.path.join("signer")
    }
}
