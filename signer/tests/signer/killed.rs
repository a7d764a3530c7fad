//! A signer that is killed, as a process, between any two of its calls to the registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::realm_dir::RealmDir;
use enrollment::{
    Directory, Entry, Kind, Refusal, Registry, RegistryError, Revision, Title, UploadPermission,
};
use protocol::ClientIdSuffix;
use rustix::process::{Signal, getpid, kill_process};
use signer::{Authority, Signer};

use crate::openssl::{P256, request};
use crate::world::{World, subject};

/// A registry at one of whose calls the process dies: before the call has its effect, or after it.
struct Deadly {
    inner: Directory,
    calls: AtomicUsize,
    fatal: usize,
    after: bool,
}

impl Deadly {
    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let fatal = self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.fatal;
        if fatal && !self.after {
            die();
        }
        let result = call.await;
        if fatal {
            die();
        }
        result
    }
}

impl Registry for Deadly {
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        self.call(self.inner.list(kind)).await
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        self.call(self.inner.get(title)).await
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        self.call(self.inner.put(title, body)).await
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        self.call(self.inner.close(title, revision)).await
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        self.call(self.inner.refuse(title, revision, refusal)).await
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        self.call(self.inner.refusal(title, revision)).await
    }

    fn poll_interval(&self) -> Duration {
        self.inner.poll_interval()
    }
}

#[tokio::test]
async fn no_kill_makes_a_second_certificate_or_a_second_refusal() {
    let (good, bad) = ("333.hula.atlas", "334.hula.atlas");
    let mut lived = 0;
    for fatal in 1.. {
        for after in [false, true] {
            let world = World::new();
            let own = request(&P256, &subject(good), &[]);
            let foreign = request(&P256, &subject("335.hula.atlas"), &[]);
            world.put(&format!("{good}.x509.csr"), &own).await;
            world.put(&format!("{bad}.x509.csr"), &foreign).await;
            let killed = sign_in_a_process(&world, fatal, after);
            lived += usize::from(!killed);
            let handed_out = world.certificate(good).await;

            assert!(!sign_in_a_process(&world, usize::MAX, false));
            let what = format!("killed at call {fatal}, after it: {after}");
            let certificate = world.certificate(good).await;
            assert!(certificate.is_some(), "{what}");
            if handed_out.is_some() {
                assert_eq!(certificate, handed_out, "{what}");
            }
            assert_eq!(world.issued(), 1, "{what}");
            assert_eq!(world.certificate(bad).await, None, "{what}");
            let left = world.requests().await;
            assert_eq!(left.len(), 1, "{what}");
            let told = world.registry.refusal(&left[0].title, &left[0].revision);
            assert!(told.await.unwrap().is_some(), "{what}");
        }
        if lived == 2 {
            // List; refusal, put, close of the one; refusal, refuse of the other.
            assert_eq!(fatal, 7, "the table must reach the end of a pass");
            return;
        }
    }
}

/// Runs the test below in a process of its own. Returns whether it was killed.
fn sign_in_a_process(world: &World, fatal: usize, after: bool) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_process", "--ignored"])
        .env(HOME, world.path(""))
        .env(FATAL, fatal.to_string())
        .env(AFTER, after.to_string())
        .output()
        .unwrap()
        .status;
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

#[tokio::test]
#[ignore = "the process that the test above starts, and that may be killed"]
async fn the_process() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let home = PathBuf::from(variable(HOME));
    if home == Path::new("") {
        return;
    }
    let directory = RealmDir::new(&home);
    let registry = Deadly {
        inner: Directory::open(directory.registry()).unwrap(),
        calls: AtomicUsize::new(0),
        fatal: variable(FATAL).parse().unwrap(),
        after: variable(AFTER) == "true",
    };
    let signer = Signer::new(
        Authority::load(&directory.authority()).unwrap(),
        ClientIdSuffix::default(),
        UploadPermission::everyone_with_write_access(),
        &directory,
    );
    signer.unwrap().once(&registry).await.unwrap();
}

fn die() {
    kill_process(getpid(), Signal::KILL).unwrap();
    // The signal may take a moment to arrive.
    loop {
        std::thread::park();
    }
}

const HOME: &str = "SIGNER_TEST_HOME";
const FATAL: &str = "SIGNER_TEST_FATAL_CALL";
const AFTER: &str = "SIGNER_TEST_AFTER";
