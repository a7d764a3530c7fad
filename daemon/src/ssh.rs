//! The settings of every SSH connection: algorithms, windows, limits, and how to tell our own software from other
//! people's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey};
use russh::{
    MethodKind, MethodSet, Preferred, SshId, cipher, client, compression, kex, mac, server,
};

/// Who is at the other end of an SSH connection. It decides how that end is slowed down; see [`crate::flow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// Our own software: one stream a connection, windows that never govern, TCP slows it down.
    Own,
    /// Anything else, such as OpenSSH: many streams a connection, slowed down through its windows.
    Foreign,
}

/// Tells the kind of peer from its identification line (RFC 4253, section 4.2).
///
/// It is a claim. Nothing that a peer may do follows from it, only how it is slowed down; either way memory is bounded.
pub fn known_peer(sshid: &[u8]) -> PeerKind {
    if sshid.starts_with(IDENTIFICATION_PREFIX.as_bytes()) {
        PeerKind::Own
    } else {
        PeerKind::Foreign
    }
}

/// The algorithms of both sides.
///
/// No Diffie-Hellman over prime fields: before authentication it costs the server 11 ms (group 14) to 672 ms (group 18)
/// of CPU per handshake, for nothing but old clients. AES-128-GCM first: 1.9 CPU seconds per GB for both ends, against
/// 3.1 for ChaCha20 and 5.9 for AES-CTR with a MAC.
pub fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(HOST_KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
    }
}

/// The proxy's side. The caller runs the connections over [`crate::flow::FlowStream`] and holds the deadlines itself.
pub fn server_config(host_keys: Vec<PrivateKey>) -> Arc<server::Config> {
    Arc::new(server::Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        auth_rejection_time: AUTH_REJECTION,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys,
        limits: far_limits(),
        window_size: FIRST_WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_BUFFER,
        event_buffer_size: EVENT_BUFFER,
        preferred: preferred(),
        max_auth_attempts: MAX_REFUSED_KEYS,
        // The stream below russh knows when a peer is silent and when it is merely paused; russh's timers do not, and
        // its keepalive would also fire before authentication, where OpenSSH's client gives up on it.
        inactivity_timeout: None,
        keepalive_interval: None,
        keepalive_max: 0,
        nodelay: true,
        ..server::Config::default()
    })
}

/// The agent's and the controller's side, for a server that must have one of the `pinned` host keys.
pub fn client_config(pinned: &[PublicKey]) -> Arc<client::Config> {
    let mut preferred = preferred();
    // Only what is pinned is asked for: a server with several keys would otherwise present one that is not.
    preferred.key = HOST_KEYS
        .iter()
        .filter(|wanted| pinned.iter().any(|key| fits(key, wanted)))
        .cloned()
        .collect();
    Arc::new(client::Config {
        client_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        window_size: OWN_WINDOW,
        maximum_packet_size: MAX_PACKET,
        channel_buffer_size: CHANNEL_BUFFER,
        preferred,
        inactivity_timeout: None,
        keepalive_interval: None,
        keepalive_max: 0,
        nodelay: true,
        ..client::Config::default()
    })
}

fn fits(key: &PublicKey, wanted: &Algorithm) -> bool {
    match (key.algorithm(), wanted) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (ours, wanted) => ours == *wanted,
    }
}

/// A server that starts a key exchange drops a peer which has more than two initial windows in flight, so it never
/// does: own clients start one each GiB, and OpenSSH's by itself. 2^36 bytes are at most 2^31 packets, so the sequence
/// number, which is the nonce of ChaCha20, does not come round.
fn far_limits() -> russh::Limits {
    russh::Limits {
        rekey_write_limit: usize::try_from(1_u64 << 36).unwrap_or(usize::MAX),
        rekey_read_limit: usize::try_from(1_u64 << 36).unwrap_or(usize::MAX),
        rekey_time_limit: Duration::from_hours(30 * 24),
    }
}

/// The window of own peers, in bytes: so large that it never governs, since TCP does.
pub const OWN_WINDOW: u32 = 1 << 30;

/// The window of a channel before its peer's kind counts, in bytes. Small, because a hundred channels may be opened at
/// once, and the next grant, after half of it, is the full one.
pub const FIRST_WINDOW: u32 = 256 * 1024;

/// How long a rejected key waits for its answer. There is nothing to guess in a public key; this only slows down a
/// client that tries a whole key ring.
const AUTH_REJECTION: Duration = Duration::from_millis(100);

/// How many keys of one connection are refused, the question which methods there are among them: a person's agent offers all
/// that it holds, and OpenSSH's server allows as many.
const MAX_REFUSED_KEYS: usize = 6;

/// The most data of one packet that we send or ask for, in bytes. Twice what OpenSSH asks for: each packet costs every
/// process on its way some wake-ups and system calls, whatever its size (docs/decisions/0025-packets-of-64-kib.md). With what SSH
/// puts around it (RFC 4253, section 6) it still fits an allocation of 64 KiB, of which the allocator keeps some at hand.
pub const MAX_PACKET: u32 = 64 * 1024 - 512;

/// Messages between the session's loop and one channel: so many that the loop never waits. The queue is allocated as it
/// fills, and [`crate::flow::HARD_CAP`] ends the connection long before, since each message counts with its overhead.
const CHANNEL_BUFFER: usize = 1_000_000;

/// Messages between our tasks and one session's loop.
const EVENT_BUFFER: usize = 10;

/// The line by which each side of ours says who it is.
pub const IDENTIFICATION: &str = concat!(
    "SSH-2.0-tunnel_",
    env!("CARGO_PKG_VERSION_MAJOR"),
    ".",
    env!("CARGO_PKG_VERSION_MINOR")
);

const IDENTIFICATION_PREFIX: &str = "SSH-2.0-tunnel_";

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
];

/// The ciphers above bring their own; the list may not be empty on the wire all the same.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

const COMPRESSION: &[compression::Name] = &[compression::NONE];

const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_banner_is_known_and_others_are_not() {
        assert_eq!(known_peer(IDENTIFICATION.as_bytes()), PeerKind::Own);
        for foreign in [
            "SSH-2.0-OpenSSH_9.2p1 Debian-2",
            "SSH-2.0-russh_0.65.1",
            "tunnel_",
            "",
        ] {
            assert_eq!(
                known_peer(foreign.as_bytes()),
                PeerKind::Foreign,
                "{foreign:?}"
            );
        }
    }

    #[test]
    fn nothing_slow_or_weak_is_offered() {
        let preferred = preferred();
        let names: Vec<&str> = preferred
            .kex
            .iter()
            .map(AsRef::as_ref)
            .chain(preferred.cipher.iter().map(AsRef::as_ref))
            .chain(preferred.mac.iter().map(AsRef::as_ref))
            .collect();
        for name in names {
            for bad in ["diffie-hellman", "-ctr", "-cbc", "sha1"] {
                assert!(!name.contains(bad), "{name}");
            }
        }
    }

    #[test]
    fn a_client_asks_only_for_the_kinds_of_host_key_that_are_pinned() {
        let key: PublicKey =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g"
                .parse()
                .unwrap();
        assert_eq!(
            client_config(&[key]).preferred.key.as_ref(),
            [Algorithm::Ed25519]
        );
    }

    #[test]
    fn a_self_initiated_key_exchange_is_out_of_reach_and_nonces_do_not_repeat() {
        let limits = far_limits();
        // The smallest packet on the wire has 16 bytes and a tag of 16.
        assert!(limits.rekey_write_limit / 32 <= 1 << 31);
    }
}
