//! What a person reads whose command does not get to a computer, word by word.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::time::Duration;

use daemon::report::Report;
use daemon::ssh_client::{DialError, RequestError};
use protocol::{DeviceId, RefusalCode};
use russh::keys::{HashAlg, PublicKey};

use crate::{
    BrokerError, DisconnectError, FdPassError, KnownHostsError, OpenError, OwnSshError, SshError,
    TurnError, compare, pass_stream,
};

/// The name of a case and a report each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn Error, hint: Option<&str>) {
        writeln!(self.0, "# {name}\n{}\n", Report::new(error, hint)).unwrap();
    }
}

fn device() -> DeviceId {
    "333.hula.atlas".parse().unwrap()
}

fn key() -> PublicKey {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZcumSzPm+oqEHLFSDpKTZ33xfjD8EtBE9lulkjrcxm"
        .parse()
        .unwrap()
}

#[test]
fn no_tunnel() {
    let mut page = Page::default();
    let device = device();
    let ssh = "ssh".parse().unwrap();
    for (name, error) in [
        (
            "no controller",
            OpenError::NotAController { id: device.clone() },
        ),
        (
            "nobody",
            OpenError::unknown(&"controller-a.hula.atlas".parse().unwrap(), &device),
        ),
        (
            "offline",
            OpenError::Offline {
                device: device.clone(),
                since: 1_795_305_600,
                lost: false,
            },
        ),
        (
            "silence",
            OpenError::NoAnswer {
                device: device.clone(),
                waited: Duration::from_secs(20),
            },
        ),
        (
            "no such service",
            OpenError::NoService {
                device: device.clone(),
                service: "web".parse().unwrap(),
            },
        ),
        (
            "no known port",
            OpenError::NoPort {
                device: device.clone(),
                service: ssh,
            },
        ),
        (
            "another realm's proxy",
            OpenError::ForeignProxy {
                device: device.clone(),
                proxy: "elsewhere.example.org:2222".to_owned(),
            },
        ),
        ("no proxy", OpenError::NoProxy),
        (
            "Ctrl-C",
            OpenError::Interrupted {
                device: device.clone(),
            },
        ),
        (
            "somebody else's turn",
            OpenError::Broker {
                device: device.clone(),
                source: BrokerError::Turn(TurnError::Busy),
            },
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("no-tunnel", page.0);
}

#[test]
fn no_permission() {
    let mut page = Page::default();
    for (name, code, text) in [
        (
            "another version",
            RefusalCode::Unsupported,
            "it speaks version 1, not 2",
        ),
        (
            "another clock",
            RefusalCode::Stale,
            "the order is from 2026-11-22 00:00:00 UTC",
        ),
        ("too much to do", RefusalCode::Busy, "too many leases"),
        (
            "on its way down",
            RefusalCode::ShuttingDown,
            "the agent is stopping",
        ),
        (
            "no proxy there",
            RefusalCode::ProxyUnavailable,
            "no connection to the proxy",
        ),
        (
            "no such service there",
            RefusalCode::UnknownService,
            "no service `web`",
        ),
        ("something else", RefusalCode::Other, "not today"),
    ] {
        let error = OpenError::Refused {
            device: device(),
            code,
            text: text.to_owned(),
        };
        page.add(name, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("no-permission", page.0);
}

#[test]
fn no_way() {
    let mut page = Page::default();
    let proxy = || "proxy.example.org:2222".to_owned();
    let dialed = |source| OpenError::Proxy {
        device: device(),
        source,
    };
    let stream = |source| OpenError::Stream {
        device: device(),
        source,
    };
    let limit = Duration::from_secs(10);
    let fingerprint = key().fingerprint(HashAlg::Sha256);
    for (name, error) in [
        (
            "a proxy that is silent",
            dialed(DialError::TimedOut {
                proxy: proxy(),
                limit,
            }),
        ),
        (
            "a proxy that is away",
            dialed(DialError::Connect {
                proxy: proxy(),
                source: io::ErrorKind::ConnectionRefused.into(),
            }),
        ),
        (
            "a proxy that is another",
            dialed(DialError::HostKey {
                proxy: proxy(),
                got: fingerprint,
                pinned: "SHA256:another".to_owned(),
            }),
        ),
        (
            "something else than a proxy",
            dialed(DialError::Handshake {
                proxy: proxy(),
                source: russh::Error::Version,
            }),
        ),
        (
            "a proxy with too many at the door",
            dialed(DialError::TurnedAway {
                proxy: proxy(),
                reason: "too many connections: come back later".to_owned(),
            }),
        ),
        (
            "a proxy without our key",
            dialed(DialError::Refused {
                proxy: proxy(),
                user: "hula".to_owned(),
                key: fingerprint,
            }),
        ),
        (
            "no stream in time",
            stream(RequestError::TimedOut { limit }),
        ),
        (
            "no stream",
            stream(RequestError::Refused {
                reason: "the device cannot reach its service".to_owned(),
            }),
        ),
        (
            "no connection any more",
            stream(RequestError::Lost {
                source: russh::Error::Disconnect,
            }),
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("no-way", page.0);
}

#[test]
fn no_end_of_a_tunnel() {
    let mut page = Page::default();
    let device = device();
    for (name, error) in [
        (
            "nobody",
            DisconnectError::Unknown {
                system: "hula".parse().unwrap(),
                device: device.clone(),
            },
        ),
        (
            "offline",
            DisconnectError::Offline {
                device: device.clone(),
            },
        ),
        (
            "silence",
            DisconnectError::NoAnswer {
                device: device.clone(),
            },
        ),
        (
            "somebody else's turn",
            DisconnectError::Broker {
                device,
                source: BrokerError::Turn(TurnError::Busy),
            },
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    insta::assert_snapshot!("no-end-of-a-tunnel", page.0);
}

#[test]
fn no_ssh() {
    let mut page = Page::default();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    for (name, error) in [
        (
            "no place for a socket",
            SshError::Socket(FdPassError::Bind {
                directory: "/run/user/1000/tunnel-0".into(),
                source: denied(),
            }),
        ),
        (
            "none",
            SshError::Spawn(io::Error::from(io::ErrorKind::NotFound)),
        ),
        ("one of another user", SshError::Spawn(denied())),
        (
            "one that is lost",
            SshError::Wait(io::ErrorKind::Other.into()),
        ),
    ] {
        page.add(name, &error, error.hint().as_deref());
    }
    let nowhere = pass_stream("/nowhere".as_ref()).unwrap_err();
    page.add("nobody who waits", &nowhere, nowhere.hint());
    let device = device();
    for (name, error) in [
        (
            "our own, at the first meeting",
            OwnSshError::Unknown {
                device: device.clone(),
            },
        ),
        (
            "our own, without descriptors",
            OwnSshError::Local(rustix::io::Errno::MFILE.into()),
        ),
        (
            "our own, at no ssh",
            OwnSshError::Handshake {
                device: device.clone(),
                source: russh::Error::Version,
            },
        ),
        (
            "our own, in silence",
            OwnSshError::TimedOut {
                device: device.clone(),
                limit: Duration::from_secs(20),
            },
        ),
        (
            "our own, without a key there",
            OwnSshError::Refused {
                device: device.clone(),
                user: "you".to_owned(),
            },
        ),
        (
            "our own, sent away",
            OwnSshError::Dismissed {
                device: device.clone(),
                reason: "too many logins".to_owned(),
            },
        ),
        ("our own, cut", OwnSshError::Lost { device }),
    ] {
        page.add(name, &error, error.hint());
    }
    insta::assert_snapshot!("no-ssh", page.0);
}

#[test]
fn no_known_host() {
    let mut page = Page::default();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("known_hosts");
    let known = key().to_openssh().unwrap();
    let mut look = |name: &str, file: &str, reported: &str| {
        std::fs::write(&path, file).unwrap();
        let error = compare(&path, &device(), &[reported.to_owned()]).unwrap_err();
        page.add(name, &error, error.hint().as_deref());
    };
    let line = format!("333.hula.atlas {known}\n");
    look("a key that is none", "", "ssh-ed25519 nothing");
    look(
        "a line that is none",
        "333.hula.atlas ssh-ed25519 nothing\n",
        &known,
    );
    let other = known.replace("IFZcum", "IFZcun");
    look("another key", &line, &other);
    let path = "known_hosts".into();
    let busy = KnownHostsError::Busy { path };
    page.add("another command that hangs", &busy, busy.hint().as_deref());
    let place = home.path().to_string_lossy();
    insta::assert_snapshot!("no-known-host", page.0.replace(&*place, "HOME"));
}
