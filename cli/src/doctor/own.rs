//! What this computer has: its configuration and its keys.

use std::sync::Arc;

use daemon::device_dir::{DeviceDir, Membership};
use daemon::identity::{self, Identity, IdentityError};
use russh::keys::PrivateKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::findings::Findings;
use super::leg::Leg;
use crate::exit;
use crate::failure::identity_hint;

/// What could be read of a computer's directory.
pub(crate) struct Own {
    /// The directory.
    pub(crate) dir: DeviceDir,
    /// Its configuration.
    pub(crate) membership: Membership,
    /// The key for the proxy.
    pub(crate) ssh_key: Option<Arc<PrivateKey>>,
    /// The key for the broker.
    pub(crate) tls_key: Option<PrivateKeyDer<'static>>,
    /// The certificate for the broker.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Own {
    /// Whether the system's tunnels are there without a broker.
    pub(crate) fn is_always_on(&self) -> bool {
        let Membership { realm, id, .. } = &self.membership;
        realm.ports.is_always_on(id.system())
    }

    /// All that a session with the broker needs.
    pub(crate) fn identity(&self) -> Option<Identity> {
        if self.certificates.is_empty() {
            return None;
        }
        Some(Identity {
            certificates: self.certificates.clone(),
            key: self.tls_key.as_ref()?.clone_key(),
            ssh_key: Arc::clone(self.ssh_key.as_ref()?),
        })
    }
}

/// The configuration; without it there is nothing else to look at.
pub(crate) fn configuration(dir: &DeviceDir, findings: &mut Findings) -> Option<Membership> {
    let began = findings.look_at("config");
    match dir.membership() {
        Ok(membership) => {
            let found = format!("`{}` in `{}`", membership.id, dir.path().display());
            findings.add(began, Leg::ok("config", found));
            Some(membership)
        }
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| {
                format!(
                    "put it right in `{}`, as the user who may read it; the realm's admin has the present `realm.toml`",
                    dir.path().display()
                )
            });
            findings.add(
                began,
                Leg::error("config", &error, Some(hint), exit::CONFIG),
            );
            None
        }
    }
}

/// The keys, each of which may be missing, broken, or open to others.
pub(crate) fn keys(dir: &DeviceDir, membership: Membership, findings: &mut Findings) -> Own {
    let id = &membership.id;
    let path = dir.ssh_key(id);
    let ssh_key = key("ssh-key", identity::ssh_key(&path), findings);
    let mut own = Own {
        dir: dir.clone(),
        ssh_key: ssh_key.map(Arc::new),
        tls_key: None,
        certificates: Vec::new(),
        membership,
    };
    if own.is_always_on() {
        findings.skip(
            "tls-key",
            "the tunnels of this system are always on, without a broker",
        );
        return own;
    }
    let id = &own.membership.id;
    own.certificates = identity::certificates(&dir.x509_certificate(id)).unwrap_or_default();
    let loaded = identity::certified_key(dir, id, &own.certificates);
    own.tls_key = key("tls-key", loaded, findings);
    own
}

fn key<K>(name: &str, loaded: Result<K, IdentityError>, findings: &mut Findings) -> Option<K> {
    let began = findings.look_at(name);
    match loaded {
        Ok(key) => {
            findings.add(began, Leg::ok(name, "only its owner may read it"));
            Some(key)
        }
        Err(error) => {
            let hint = identity_hint(&error);
            findings.add(began, Leg::error(name, &error, hint, exit::CONFIG));
            None
        }
    }
}
