//! One line for each refusal: who, from where, what, and by which rule. Peers are never told that much.
//!
//! The log is on the broker's disk, and it is the peer who decides how often it is refused. So one peer has some lines at
//! once and then one now and then, which says how many were left out; the counters count all of them.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::report::one_line;
use tokio::task_local;
use tokio::time::Instant;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::gate::{Admitted, Refusal};
use crate::limits::{LINE_SOURCES, LINES};
use crate::lines::{Lines, Source};

task_local! {
    /// Whose handshake this task is in. TLS asks the verifier about a certificate, and does not say whose it is.
    static HANDSHAKE: (SocketAddr, Arc<Audit>);
}

/// The log of what peers did. Nothing of it is called with the hub's lock held: a log can be slow.
#[derive(Debug)]
pub(crate) struct Audit(Mutex<Lines>);

impl Default for Audit {
    fn default() -> Self {
        Self(Mutex::new(Lines::new(LINES, LINE_SOURCES)))
    }
}

impl Audit {
    /// Does a handshake whose refusal is to be written down with this address.
    pub(crate) async fn handshake<F: Future>(
        self: &Arc<Self>,
        address: SocketAddr,
        handshake: F,
    ) -> F::Output {
        HANDSHAKE
            .scope((address, Arc::clone(self)), handshake)
            .await
    }

    /// A device did what it may not. Topics are printed escaped: they are the peer's text.
    pub(crate) fn refused(&self, client: &Admitted, refusal: &Refusal) {
        let peer = client.peer();
        self.refused_peer(&peer.id, peer.address, refusal);
    }

    /// A device may not even connect.
    pub(crate) fn refused_peer(
        &self,
        device: &impl Display,
        address: SocketAddr,
        refusal: &Refusal,
    ) {
        let Refusal {
            action,
            resource,
            rule,
        } = refusal;
        if let Some(left_out) = self.take(of_device(device)) {
            tracing::warn!(%device, %address, action, ?resource, rule, left_out, "refused");
        }
    }

    /// The will of a client whose connection is gone is not published.
    pub(crate) fn refused_will(&self, client_id: &str, refusal: &Refusal) {
        let Refusal {
            action,
            resource,
            rule,
        } = refusal;
        if let Some(left_out) = self.take(of_device(&client_id)) {
            tracing::warn!(
                client = client_id,
                action,
                ?resource,
                rule,
                left_out,
                "its will is refused"
            );
        }
    }

    /// A certificate is not accepted.
    pub(crate) fn refused_claim(&self, der: &[u8], address: SocketAddr, rule: &impl Display) {
        let Some(left_out) = self.take(Source::address(address.ip())) else {
            return;
        };
        let claimed = X509Certificate::from_der(der).map_or_else(
            |_| "no certificate".to_owned(),
            |(_, certificate)| {
                let name = certificate.subject().iter_common_name().next();
                let name = name.and_then(|name| name.as_str().ok());
                // A name of ours fits twice.
                name.unwrap_or("nobody").chars().take(512).collect()
            },
        );
        tracing::warn!(?claimed, %address, action = "TLS", %rule, left_out, "refused");
    }

    /// Somebody has left, or was left, before it was clear who it is.
    pub(crate) fn turned_away(&self, address: SocketAddr, error: &dyn Error) {
        if let Some(left_out) = self.take(Source::address(address.ip())) {
            tracing::info!(%address, left_out, "{}", one_line(error));
        }
    }

    /// A device is not read from for a while.
    pub(crate) fn slowed(&self, client: &Admitted, rate: u32) {
        let peer = client.peer();
        if let Some(left_out) = self.take(of_device(&peer.id)) {
            tracing::warn!(device = %peer.id, address = %peer.address, rate, left_out, "asks for too much and is slowed");
        }
    }

    /// Says what was left out last of those who are silent now.
    pub(crate) fn sweep(&self, now: Instant) {
        let unsaid = self.lock().sweep(now);
        for (source, left_out) in unsaid {
            match source {
                Source::Device(device) => {
                    tracing::warn!(%device, left_out, "lines about a device were left out");
                }
                Source::Address(address) => {
                    tracing::warn!(%address, left_out, "lines about strangers were left out");
                }
                Source::Others => tracing::warn!(left_out, "lines about many peers were left out"),
            }
        }
    }

    fn take(&self, source: Source) -> Option<u64> {
        self.lock().take(source, Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A certificate is not accepted in the handshake of this task. What it says of its owner is a claim, and printed escaped.
pub(crate) fn refused_certificate(der: &[u8], rule: &impl Display) {
    let told = HANDSHAKE.try_with(|(address, audit)| audit.refused_claim(der, *address, rule));
    // Nobody asks the verifier outside a handshake.
    told.ok();
}

fn of_device(device: &impl Display) -> Source {
    Source::Device(device.to_string().into())
}
