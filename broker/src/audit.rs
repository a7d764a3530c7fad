//! One line for each refusal: who, from where, what, and by which rule. Peers are never told that much.

use std::net::SocketAddr;

use crate::gate::{Admitted, Refusal};

/// A device did what it may not. Topics are printed escaped: they are the peer's text.
pub(crate) fn refused(client: &Admitted, refusal: &Refusal) {
    let peer = client.peer();
    refused_peer(&peer.id, peer.address, refusal);
}

/// A device may not even connect.
pub(crate) fn refused_peer(
    device: &impl std::fmt::Display,
    address: SocketAddr,
    refusal: &Refusal,
) {
    let Refusal {
        action,
        resource,
        rule,
    } = refusal;
    tracing::warn!(%device, %address, action, ?resource, rule, "refused");
}
