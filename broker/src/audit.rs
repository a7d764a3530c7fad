//! One line for each refusal: who, from where, what, and by which rule. Peers are never told that much.

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;

use tokio::task_local;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::gate::{Admitted, Refusal};

task_local! {
    /// Whose handshake this task is in. TLS asks the verifier about a certificate, and does not say whose it is.
    static ADDRESS: SocketAddr;
}

/// Does a handshake whose refusal is to be written down with this address.
pub(crate) async fn handshake<F: Future>(address: SocketAddr, handshake: F) -> F::Output {
    ADDRESS.scope(address, handshake).await
}

/// A device did what it may not. Topics are printed escaped: they are the peer's text.
pub(crate) fn refused(client: &Admitted, refusal: &Refusal) {
    let peer = client.peer();
    refused_peer(&peer.id, peer.address, refusal);
}

/// A device may not even connect.
pub(crate) fn refused_peer(device: &impl Display, address: SocketAddr, refusal: &Refusal) {
    let Refusal {
        action,
        resource,
        rule,
    } = refusal;
    tracing::warn!(%device, %address, action, ?resource, rule, "refused");
}

/// A certificate is not accepted in the handshake of this task. What it says of its owner is a claim, and printed escaped.
pub(crate) fn refused_certificate(der: &[u8], rule: &impl Display) {
    if let Ok(address) = ADDRESS.try_with(|address| *address) {
        refused_claim(der, address, rule);
    }
}

/// A certificate is not accepted.
pub(crate) fn refused_claim(der: &[u8], address: SocketAddr, rule: &impl Display) {
    let claimed = X509Certificate::from_der(der).map_or_else(
        |_| "no certificate".to_owned(),
        |(_, certificate)| {
            let name = certificate.subject().iter_common_name().next();
            let name = name.and_then(|name| name.as_str().ok());
            // A name of ours fits twice.
            name.unwrap_or("nobody").chars().take(512).collect()
        },
    );
    tracing::warn!(?claimed, %address, action = "TLS", %rule, "refused");
}
