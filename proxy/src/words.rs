//! Why a proxy does not begin, and what its log says of those whom it refuses something, word by word.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::io;

use daemon::report::Report;
use russh::keys::{Algorithm, PrivateKey};
use tokio::task::JoinSet;

use crate::admission::Peer;
use crate::crowd::{Crowded, Of};
use crate::keys::{KeyStoreError, Keys};
use crate::rendezvous::ForwardRefusal;
use crate::session::TurnedDown;
use crate::{BindError, KeyPermission, Limits, Proxy, ProxyConfig, RELOAD};

/// The name of a case and a report each.
#[derive(Default)]
struct Page(String);

impl Page {
    fn add(&mut self, name: &str, error: &dyn Error, hint: Option<&str>) {
        writeln!(self.0, "# {name}\n{}\n", Report::new(error, hint)).unwrap();
    }
}

#[tokio::test]
async fn no_proxy() {
    let mut page = Page::default();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let good = ProxyConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        realm: "atlas".parse().unwrap(),
        host_keys: vec![key],
        keys: home.path().to_owned(),
        permits: KeyPermission::everyone_with_write_access(),
        reload: RELOAD,
        limits: Limits::default(),
        bandwidth: BTreeMap::new(),
    };
    let first = Proxy::bind(good.clone()).await.unwrap();
    let taken = first.local_addr();
    for (name, config) in [
        (
            "no host key",
            ProxyConfig {
                host_keys: Vec::new(),
                ..good.clone()
            },
        ),
        (
            "a file for the keys",
            ProxyConfig {
                keys: file,
                ..good.clone()
            },
        ),
        (
            "an address that is taken",
            ProxyConfig {
                listen: taken,
                ..good
            },
        ),
    ] {
        let error = Proxy::bind(config).await.unwrap_err();
        page.add(name, &error, error.hint());
    }
    let error = BindError::Listen {
        address: "192.0.2.1:2222".parse().unwrap(),
        source: io::ErrorKind::AddrNotAvailable.into(),
    };
    page.add("an address of another computer", &error, error.hint());
    let error = BindError::Keys {
        source: KeyStoreError::List {
            path: "/srv/tunnel/registry".into(),
            source: io::ErrorKind::PermissionDenied.into(),
        },
    };
    page.add("another user's keys", &error, error.hint());
    let mut tasks = JoinSet::new();
    tasks.spawn(std::future::pending::<()>());
    tasks.abort_all();
    let source = tasks.join_next().await.unwrap().unwrap_err();
    let task = format!("task {}", source.id());
    let error = BindError::Keys {
        source: KeyStoreError::Interrupted { source },
    };
    page.add("an end before the beginning", &error, error.hint());
    let place = home.path().to_string_lossy();
    let text = page.0.replace(&*place, "HOME").replace(&task, "task N");
    let text = text.replace(&taken.to_string(), "ADDRESS");
    insta::assert_snapshot!("no-proxy", text);
}

#[test]
fn refusals() {
    let mut page = Page::default();
    let peer = |id: &str| {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let keys = Keys::of([(key.public_key().clone(), id.parse().unwrap())]);
        Peer::admit("hula", key.public_key(), &keys).unwrap()
    };
    let (device, controller) = (peer("333.hula.atlas"), peer("controller-a.hula.atlas"));
    for (name, refused) in [
        (
            "a controller that serves",
            controller.forward("", 0).map(drop),
        ),
        ("a device that connects", device.stream("334", 22).map(drop)),
        (
            "another system",
            controller.stream("333.lava", 22).map(drop),
        ),
        ("an address", controller.stream("192.0.2.1", 22).map(drop)),
        ("another's name", device.forward("334", 22).map(drop)),
        ("no port", controller.stream("333", 0).map(drop)),
        ("a port beyond all", device.forward("", 70_000).map(drop)),
    ] {
        page.add(name, &refused.unwrap_err(), None);
    }
    for (name, refusal) in [
        ("a port of another", ForwardRefusal::Taken),
        ("a port again", ForwardRefusal::Twice),
        ("a port too many", ForwardRefusal::TooMany),
    ] {
        page.add(name, &refusal, None);
    }
    for (name, refusal) in [
        ("key after key", TurnedDown::TooManyKeys),
        (
            "a connection too many of one",
            TurnedDown::Crowded(Crowded::Device(Of::Connections)),
        ),
        (
            "a connection too many of all",
            TurnedDown::Crowded(Crowded::System(Of::Connections)),
        ),
    ] {
        page.add(name, &refusal, None);
    }
    insta::assert_snapshot!("refusals", page.0);
}
