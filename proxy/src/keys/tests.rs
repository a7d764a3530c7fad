//! Key files that come, change and go, and what they must not do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::file::{Reading, read_key};
use super::*;
use crate::limits::MAX_KEY_FILE;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn key(text: &str) -> PublicKey {
    text.parse().unwrap()
}

async fn store(directory: &Path) -> KeyStore {
    limited(directory, 100).await
}

async fn limited(directory: &Path, limit: usize) -> KeyStore {
    let permits = KeyPermission::everyone_with_write_access();
    KeyStore::open(directory, "atlas".parse().unwrap(), permits, limit)
        .await
        .unwrap()
}

/// The device of a system that has a key, by name.
fn owner(store: &KeyStore, system: &str, text: &str) -> Option<String> {
    let keys = store.current();
    keys.owner(&system.parse().unwrap(), &key(text))
        .map(ToString::to_string)
}

#[tokio::test]
async fn keys_come_change_and_go_with_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("333.hula.atlas.sshkey.pub");
    let store = store(directory.path()).await;
    assert!(store.current().is_empty());
    fs::write(&path, format!("{KEY} 333.hula.atlas\n")).unwrap();
    store.reload().await.unwrap();
    assert_eq!(
        owner(&store, "hula", KEY).as_deref(),
        Some("333.hula.atlas")
    );
    fs::write(&path, OTHER).unwrap();
    store.reload().await.unwrap();
    assert_eq!(owner(&store, "hula", KEY), None);
    assert!(owner(&store, "hula", OTHER).is_some());
    let mut changes = store.subscribe();
    store.reload().await.unwrap();
    assert!(!changes.has_changed().unwrap(), "nothing new");
    fs::remove_file(&path).unwrap();
    store.reload().await.unwrap();
    assert!(changes.borrow_and_update().is_empty());
}

#[tokio::test]
async fn a_copied_key_stays_with_the_device_that_had_it_first() {
    let directory = tempfile::tempdir().unwrap();
    let at = |id: &str| directory.path().join(format!("{id}.sshkey.pub"));
    let store = store(directory.path()).await;
    fs::write(at("333.hula.atlas"), KEY).unwrap();
    store.reload().await.unwrap();
    // Names before and after it, in its system and in another.
    for copy in ["111.hula.atlas", "999.hula.atlas", "111.lono.atlas"] {
        fs::write(at(copy), KEY).unwrap();
        store.reload().await.unwrap();
        let holder = owner(&store, "hula", KEY);
        assert_eq!(holder.as_deref(), Some("333.hula.atlas"), "{copy}");
    }
    assert_eq!(
        owner(&store, "lono", KEY).as_deref(),
        Some("111.lono.atlas"),
        "another system's"
    );
    // Brought again, it is no younger.
    fs::write(at("new"), format!("{KEY} 333.hula.atlas\n")).unwrap();
    fs::rename(at("new"), at("333.hula.atlas")).unwrap();
    fs::remove_file(at("111.hula.atlas")).unwrap();
    store.reload().await.unwrap();
    let holder = owner(&store, "hula", KEY);
    assert_eq!(holder.as_deref(), Some("333.hula.atlas"));
    fs::remove_file(at("333.hula.atlas")).unwrap();
    store.reload().await.unwrap();
    let holder = owner(&store, "hula", KEY);
    assert_eq!(holder.as_deref(), Some("999.hula.atlas"), "the next");
}

#[tokio::test]
async fn a_file_counts_only_from_those_who_may_bring_it() {
    let directory = tempfile::tempdir().unwrap();
    for (id, key) in [("333.hula.atlas", KEY), ("controller.hula.atlas", OTHER)] {
        fs::write(directory.path().join(format!("{id}.sshkey.pub")), key).unwrap();
    }
    let uid = rustix::process::geteuid().as_raw();
    for (uids, expected) in [
        (BTreeSet::new(), None),
        (BTreeSet::from([uid]), Some("controller.hula.atlas")),
    ] {
        let permits = KeyPermission::controllers_only_from(uids);
        let store = KeyStore::open(directory.path(), "atlas".parse().unwrap(), permits, 100)
            .await
            .unwrap();
        assert_eq!(owner(&store, "hula", OTHER).as_deref(), expected);
        assert!(owner(&store, "hula", KEY).is_some(), "a target's");
    }
}

#[tokio::test]
async fn a_key_that_says_whose_it_is_cannot_be_renamed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |id: &str| directory.path().join(format!("{id}.sshkey.pub"));
    fs::write(at("controller.hula.atlas"), format!("{KEY} 333.hula.atlas")).unwrap();
    fs::write(at("334.hula.atlas"), format!("{OTHER} me@here.example.org")).unwrap();
    let store = store(directory.path()).await;
    assert_eq!(owner(&store, "hula", KEY), None);
    assert!(owner(&store, "hula", OTHER).is_some());
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_key_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let name = "333.hula.atlas.sshkey.pub";
    let path = directory.path().join(name);
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // As when it takes the place of a file that was listed.
    let read = spawn_blocking(move || {
        let permits = KeyPermission::everyone_with_write_access();
        read_key(&path, name, &"atlas".parse().unwrap(), &permits)
    });
    let read = timeout(Duration::from_secs(20), read).await;
    let read = read.expect("it waits for a writer").unwrap().unwrap();
    assert!(matches!(read, Reading::Nothing), "{read:?}");
    assert!(store(directory.path()).await.current().is_empty());
}

#[tokio::test]
async fn files_that_are_no_key_of_the_realm_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("333.hula.other.sshkey.pub"), KEY).unwrap();
    fs::write(at("333.hula.sshkey.pub"), KEY).unwrap();
    fs::write(at("334.hula.atlas.sshkey"), KEY).unwrap();
    fs::write(at("335.hula.atlas.sshkey.pub"), format!("{KEY}\n{OTHER}\n")).unwrap();
    fs::write(at("336.hula.atlas.sshkey.pub"), format!("restrict {KEY}")).unwrap();
    fs::write(
        at("337.hula.atlas.sshkey.pub"),
        "x".repeat(MAX_KEY_FILE + 1),
    )
    .unwrap();
    fs::write(at("338.hula.atlas.sshkey.pub"), b"\xff\xfe").unwrap();
    std::os::unix::fs::symlink(at("334.hula.atlas.sshkey"), at("339.hula.atlas.sshkey.pub"))
        .unwrap();
    assert!(store(directory.path()).await.current().is_empty());
}

#[tokio::test]
async fn beyond_the_limit_those_who_are_there_stay_and_deletions_count() {
    let directory = tempfile::tempdir().unwrap();
    let at = |id: &str| directory.path().join(format!("{id}.sshkey.pub"));
    let store = limited(directory.path(), 1).await;
    fs::write(at("2.hula.atlas"), KEY).unwrap();
    store.reload().await.unwrap();
    fs::write(at("1.hula.atlas"), OTHER).unwrap();
    store.reload().await.unwrap();
    assert_eq!(owner(&store, "hula", OTHER), None);
    assert!(owner(&store, "hula", KEY).is_some());
    fs::remove_file(at("2.hula.atlas")).unwrap();
    store.reload().await.unwrap();
    assert_eq!(owner(&store, "hula", KEY), None);
    assert!(owner(&store, "hula", OTHER).is_some(), "there is room now");
}

#[tokio::test]
async fn junk_takes_no_keys_place_and_stops_no_withdrawal() {
    let directory = tempfile::tempdir().unwrap();
    let at = |id: &str| directory.path().join(format!("{id}.sshkey.pub"));
    let store = limited(directory.path(), 2).await;
    fs::write(at("333.hula.atlas"), KEY).unwrap();
    store.reload().await.unwrap();
    for number in 0..20 {
        fs::write(at(&format!("junk-{number}")), "junk").unwrap();
    }
    store.reload().await.unwrap();
    fs::write(at("zzz.hula.atlas"), OTHER).unwrap();
    store.reload().await.unwrap();
    assert_eq!(store.current().len(), 2, "a new key");
    fs::remove_file(at("333.hula.atlas")).unwrap();
    store.reload().await.unwrap();
    assert_eq!(owner(&store, "hula", KEY), None, "withdrawn");
}
