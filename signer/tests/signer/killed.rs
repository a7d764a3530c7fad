//! A signer that is killed, as a process, between any two of its calls to the registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use daemon::realm_dir::RealmDir;
use enrollment::{Directory, Registry, UploadPermission};
use protocol::ClientIdSuffix;
use rustix::process::{Signal, getpid, kill_process};
use signer::{Authority, Signer};

use crate::faulty::{Faulty, Moment};
use crate::openssl::{P256, request};
use crate::world::{World, subject};

#[tokio::test]
async fn no_kill_makes_a_second_certificate_or_a_second_refusal() {
    let (good, bad) = ("333.hula.atlas", "334.hula.atlas");
    let mut lived = 0;
    for fatal in 1.. {
        for after in [false, true] {
            let world = World::new();
            let foreign = request(&P256, &subject("335.hula.atlas"), &[]);
            world.put_request(good).await;
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
            // List; refusal, put, close of the one; refusal, refuse of the other; keys; what is misnamed.
            assert_eq!(fatal, 9, "the table must reach the end of a pass");
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
    let (fatal, after) = (variable(FATAL).parse(), variable(AFTER) == "true");
    let fatal = (
        fatal.unwrap(),
        if after { Moment::After } else { Moment::Before },
    );
    let inner = Directory::open(directory.registry()).unwrap();
    let registry = Faulty::new(&inner, |number, moment| {
        if (number, moment) == fatal {
            die();
        }
        Ok(())
    });
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
