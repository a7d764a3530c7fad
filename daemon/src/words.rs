//! What is said of files that cannot be used and of servers that cannot be reached, word by word.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::io;
use std::time::Duration;

use russh::keys::{HashAlg, PublicKey};

use crate::device_file::DeviceFileError;
use crate::files::{self, FileError};
use crate::host_port::HostPort;
use crate::reach::ReachError;
use crate::realm_file::{RealmFile, SaveError};
use crate::report::Report;
use crate::ssh_client::{DialError, RequestError};
use crate::tls::TlsError;

/// The name of a case and a report each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn Error, hint: Option<&str>) {
        writeln!(self.0, "# {name}\n{}\n", Report::new(error, hint)).unwrap();
    }
}

#[test]
fn files_of_no_use() {
    let mut page = Page::default();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("realm.toml");
    let mut add = |name: &str, error: FileError| {
        let hint = error.hint();
        page.add(name, &error, hint.as_deref());
    };
    add("none", files::read_text(&path, 10).unwrap_err());
    fs::write(&path, "0123456789a").unwrap();
    add("a long one", files::read_text(&path, 10).unwrap_err());
    fs::write(&path, b"\xff\xfe").unwrap();
    add("no text", files::read_text(&path, 10).unwrap_err());
    add("open to all", files::read_private(&path, 10).unwrap_err());
    let within = files::write_public(&path.join("file"), b"text");
    add("a file for a folder", within.unwrap_err());
    for kind in [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let path = "/etc/tunnel/device.toml".into();
        let source = kind.into();
        add(&format!("{kind:?}"), FileError::Write { path, source });
    }
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        RealmFile::load(&path).unwrap_err()
    };
    for (name, text) in [
        ("no realm", "realm = 1\n"),
        (
            "a realm of tomorrow",
            &REALM.replace("version = 1", "version = 9"),
        ),
        (
            "a realm without a proxy's key",
            &REALM.replace("[\"ssh-ed25519 A\"]", "[]"),
        ),
    ] {
        let error = load(text);
        page.add(name, &error, error.hint().as_deref());
    }
    let error = DeviceFileError::Name {
        path: "device.toml".into(),
        source: protocol::NameError::IdTooLong { length: 300 },
    };
    page.add("a device of no name", &error, None);
    let error = SaveError::Form {
        source: serde::ser::Error::custom("unsupported type"),
    };
    page.add("a realm of no form", &error, None);
    let place = home.path().to_string_lossy();
    insta::assert_snapshot!("files-of-no-use", page.0.replace(&*place, "HOME"));
}

const REALM: &str = "\
version = 1
realm = \"atlas\"
ca = \"\"

[broker]
address = \"broker.example.org:8883\"

[[proxy]]
address = \"proxy.example.org:2222\"
host_keys = [\"ssh-ed25519 A\"]

[registry]
directory = \"registry\"
";

#[test]
fn servers_out_of_reach() {
    let mut page = Page::default();
    let place: HostPort = "broker.example.org:8883".parse().unwrap();
    for (name, error) in [
        (
            "no address",
            ReachError::Name {
                host: place.host().to_owned(),
                source: io::Error::other(
                    "failed to lookup address information: Name or service not known",
                ),
            },
        ),
        (
            "nobody there",
            ReachError::Connect {
                place: place.clone(),
                source: io::ErrorKind::ConnectionRefused.into(),
            },
        ),
        (
            "silence",
            ReachError::Silent {
                place: place.clone(),
                limit: Duration::from_secs(5),
            },
        ),
        (
            "another's certificate",
            ReachError::Tls {
                place: place.clone(),
                source: rustls::CertificateError::UnknownIssuer.into(),
            },
        ),
        (
            "a certificate that is over",
            ReachError::Tls {
                place: place.clone(),
                source: rustls::CertificateError::Expired.into(),
            },
        ),
        (
            "ours is not taken",
            ReachError::Tls {
                place: place.clone(),
                source: rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA),
            },
        ),
        (
            "no TLS",
            ReachError::Broken {
                place,
                source: io::ErrorKind::UnexpectedEof.into(),
            },
        ),
    ] {
        page.add(name, &error, Some(&error.hint()));
    }
    for (name, error) in [
        (
            "no authority",
            TlsError::Authority(rustls_pki_types::pem::Error::NoItemsFound),
        ),
        ("an authority of no use", TlsError::UnusableAuthority),
        (
            "another's key",
            TlsError::Identity(rustls::Error::InconsistentKeys(
                rustls::InconsistentKeys::KeyMismatch,
            )),
        ),
        (
            "no cipher",
            TlsError::Protocol(rustls::Error::General("no usable cipher suites".to_owned())),
        ),
    ] {
        page.add(name, &error, error.hint());
    }
    insta::assert_snapshot!("servers-out-of-reach", page.0);
}

/// As an agent logs them, and as `tunnel doctor` shows them.
#[test]
fn a_proxy_out_of_reach() {
    let mut page = Page::default();
    let proxy = || "proxy.example.org:2222".to_owned();
    let key: PublicKey =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZcumSzPm+oqEHLFSDpKTZ33xfjD8EtBE9lulkjrcxm"
            .parse()
            .unwrap();
    let (key, limit) = (key.fingerprint(HashAlg::Sha256), Duration::from_secs(10));
    for (name, error) in [
        (
            "silence",
            DialError::TimedOut {
                proxy: proxy(),
                limit,
            },
        ),
        (
            "nobody there",
            DialError::Connect {
                proxy: proxy(),
                source: io::ErrorKind::ConnectionRefused.into(),
            },
        ),
        (
            "another's key",
            DialError::HostKey {
                proxy: proxy(),
                got: key,
                pinned: "SHA256:another".to_owned(),
            },
        ),
        (
            "no ssh",
            DialError::Handshake {
                proxy: proxy(),
                source: russh::Error::Version,
            },
        ),
        (
            "sent away",
            DialError::TurnedAway {
                proxy: proxy(),
                reason: "too many failed logins from your address: come back in 60 s".to_owned(),
            },
        ),
        (
            "not known there",
            DialError::Refused {
                proxy: proxy(),
                user: "hula".to_owned(),
                key,
            },
        ),
    ] {
        page.add(name, &error, error.hint());
    }
    for (name, error) in [
        ("no answer", RequestError::TimedOut { limit }),
        (
            "no forward",
            RequestError::Refused {
                reason: "too many forwards".to_owned(),
            },
        ),
        (
            "cut",
            RequestError::Lost {
                source: russh::Error::Disconnect,
            },
        ),
    ] {
        page.add(name, &error, None);
    }
    insta::assert_snapshot!("a-proxy-out-of-reach", page.0);
}
