use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::report::Report;
use proptest::prelude::*;
use redb::backends::FileBackend;
use redb::{StorageBackend, TableDefinition};

use super::place::{FILE, options};
use super::tables::{ABOUT, WILLS};
use super::*;
use crate::journal::Journal;
use crate::message::Qos;
use crate::topic::tests::name;

fn realm() -> Label {
    "atlas".parse().unwrap()
}

fn message(topic: &str, payload: &str) -> Message {
    Message::new(name(topic), payload.as_bytes(), Qos::AtLeastOnce, true)
}

/// What these changes come to.
fn batch(retained: &[(&str, &str)], wills: &[(&str, Option<&str>)]) -> Batch {
    let journal = Journal::new(true, 100);
    for (topic, payload) in retained {
        journal.retain(&Arc::new(message(topic, payload)));
    }
    for (client_id, payload) in wills {
        let will = payload.map(|payload| Arc::new(message("w", payload)));
        journal.will(&(*client_id).into(), will);
    }
    journal.take()
}

/// A name and its text each.
type Texts = Vec<(String, String)>;

fn content(kept: &Kept) -> (Texts, Texts) {
    let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
    (
        kept.retained
            .iter()
            .map(|message| (message.topic.to_string(), text(message)))
            .collect(),
        kept.wills
            .iter()
            .map(|(client_id, will)| (client_id.to_string(), text(will)))
            .collect(),
    )
}

fn refusal(directory: &Path, realm: &Label) -> StoreError {
    Store::open(directory, realm).map(drop).unwrap_err()
}

#[test]
fn what_was_committed_is_there_after_a_new_start() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("a").join("store");
    let (mut store, kept) = Store::open(&directory, &realm()).unwrap();
    assert_eq!(content(&kept), (vec![], vec![]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode(&directory), mode(&directory.join(FILE))),
        (0o700, 0o600)
    );
    let changes = batch(
        &[("a", "1"), ("b", "1"), ("c", "1"), ("a", "2"), ("b", "")],
        &[("333", Some("lost")), ("334", Some("lost")), ("335", None)],
    );
    store.commit(&changes).unwrap();
    store
        .commit(&batch(&[("c", "2")], &[("334", None)]))
        .unwrap();
    drop(store);
    let (_store, kept) = Store::open(&directory, &realm()).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        content(&kept),
        (
            vec![pair("a", "2"), pair("c", "2")],
            vec![pair("333", "lost")]
        )
    );
    assert_eq!(kept.retained[0], message("a", "2"));
}

#[test]
fn one_broker_a_store() {
    let home = tempfile::tempdir().unwrap();
    let first = Store::open(home.path(), &realm()).unwrap();
    let error = refusal(home.path(), &realm());
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("`store` below `[broker]`"));
    drop(first);
    Store::open(home.path(), &realm()).unwrap();
}

/// Each is refused with what to do, and left as it is.
#[test]
fn a_file_of_no_use_is_refused_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let directory = home.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let foreign = made("foreign");
    let database = Database::create(foreign.join(FILE)).unwrap();
    let writing = database.begin_write().unwrap();
    let table: TableDefinition<'_, &str, &str> = TableDefinition::new("else");
    writing.open_table(table).unwrap();
    writing.commit().unwrap();
    drop(database);

    let newer = made("newer");
    drop(Store::open(&newer, &realm()).unwrap());
    let database = Database::open(newer.join(FILE)).unwrap();
    let writing = database.begin_write().unwrap();
    let mut about = writing.open_table(ABOUT).unwrap();
    about.insert("format", "2").unwrap();
    drop(about);
    writing.commit().unwrap();
    drop(database);

    let unreadable = made("unreadable");
    let (store, _) = Store::open(&unreadable, &realm()).unwrap();
    let writing = store.database.as_ref().unwrap().begin_write().unwrap();
    let mut wills = writing.open_table(WILLS).unwrap();
    wills.insert("333", &b"\xff"[..]).unwrap();
    drop(wills);
    writing.commit().unwrap();
    drop(store);

    let empty = made("empty");
    fs::write(empty.join(FILE), "").unwrap();

    let text = made("text");
    fs::write(text.join(FILE), "presence\n".repeat(1000)).unwrap();

    let mut page = String::new();
    let mut add = |error: &StoreError| {
        let report = Report::new(error, error.hint().as_deref()).to_string();
        let report = report.replace(&*home.path().to_string_lossy(), "HOME");
        writeln!(page, "{report}\n").unwrap();
    };
    for directory in [foreign, newer, unreadable, empty, text] {
        let error = refusal(&directory, &realm());
        assert!(matches!(error, StoreError::Content { .. }), "{error:?}");
        add(&error);
        // Nothing was made of it.
        let again = refusal(&directory, &realm());
        assert_eq!(format!("{again:?}"), format!("{error:?}"));
    }
    let other = "other".parse().unwrap();
    drop(Store::open(&home.path().join("mine"), &realm()).unwrap());
    add(&refusal(&home.path().join("mine"), &other));

    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refusal(&file, &realm());
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    add(&error);
    insta::assert_snapshot!("a-file-of-no-use", page);
}

/// A file that fails when it is told to.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    fails: Arc<AtomicBool>,
}

impl Faulty {
    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
}

#[test]
fn a_disk_that_was_full_is_written_again() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), &realm()).unwrap());
    let place = Place::new(home.path(), &realm());
    let fails = Arc::new(AtomicBool::new(false));
    let backend = Faulty {
        file: FileBackend::new(options().open(&place.path).unwrap()).unwrap(),
        fails: Arc::clone(&fails),
    };
    let (mut store, _) = Store::open(&home.path().join("other"), &realm()).unwrap();
    store.database = Some(place.open_backend(backend).unwrap());
    store.place = place;
    store.commit(&batch(&[("a", "1")], &[])).unwrap();
    fails.store(true, Ordering::Relaxed);
    let changes = batch(&[("a", "2")], &[("333", Some("lost"))]);
    let error = store.commit(&changes).unwrap_err();
    assert!(matches!(error, CommitError::Write(_)), "{error:?}");
    assert!(store.database.is_none());
    // It has a file of its own now, which is the one that was written last.
    assert!(!store.wants_everything().unwrap());
    store.commit(&changes).unwrap();
    drop(store);
    let (_store, kept) = Store::open(home.path(), &realm()).unwrap();
    assert_eq!(content(&kept).0, [("a".to_owned(), "2".to_owned())]);
    assert_eq!(kept.wills.len(), 1);
}

/// Somebody removes the file, or restores an older one, while the disk is full.
#[test]
fn another_file_in_its_place_is_written_as_a_whole() {
    for is_restored in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        let (mut store, _) = Store::open(home.path(), &realm()).unwrap();
        let old = batch(&[("gone", "1")], &[("gone", Some("lost"))]);
        store.commit(&old).unwrap();
        store.close();
        let backup = fs::read(&path).unwrap();
        assert!(!store.wants_everything().unwrap());
        let new = batch(&[("gone", ""), ("a", "1")], &[("gone", None)]);
        store.commit(&new).unwrap();
        store.close();
        fs::remove_file(&path).unwrap();
        if is_restored {
            fs::write(&path, &backup).unwrap();
        }
        assert!(store.wants_everything().unwrap());
        let last = batch(&[("b", "1")], &[("333", Some("lost"))]);
        let error = store.commit(&last).unwrap_err();
        assert!(matches!(error, CommitError::Foreign), "{error:?}");
        let mut all = batch(&[("a", "1"), ("b", "1")], &[("333", Some("lost"))]);
        all.is_everything = true;
        store.commit(&all).unwrap();
        assert!(!store.wants_everything().unwrap());
        drop(store);
        let (_store, kept) = Store::open(home.path(), &realm()).unwrap();
        let topics: Vec<_> = kept.retained.iter().map(|one| one.topic.as_str()).collect();
        assert_eq!(topics, ["a", "b"]);
        let clients: Vec<_> = kept.wills.iter().map(|one| &*one.0).collect();
        assert_eq!(clients, ["333"]);
    }
}

/// A broker that dies while it makes its store leaves none behind, and is in nobody's way.
#[test]
fn a_store_that_was_never_finished_is_none() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("broker.new"), "half").unwrap();
    assert!(!Store::check(home.path(), &realm()).unwrap());
    drop(Store::open(home.path(), &realm()).unwrap());
    assert!(Store::check(home.path(), &realm()).unwrap());
    assert!(!home.path().join("broker.new").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage is an error or without effect, never a panic and never another content.
    #[test]
    fn a_damaged_file_is_never_believed(place in 0.0..1.0f64, bytes in prop::collection::vec(any::<u8>(), 1..64)) {
        let home = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(home.path(), &realm()).unwrap();
        let topics: Vec<String> = (0..200).map(|number| format!("t/{number}")).collect();
        let retained: Vec<_> = topics.iter().map(|topic| (topic.as_str(), "online")).collect();
        store.commit(&batch(&retained, &[("333", Some("lost"))])).unwrap();
        let expected = { drop(store); content(&Store::open(home.path(), &realm()).unwrap().1) };
        let path = home.path().join(FILE);
        let mut content_of_file = fs::read(&path).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any place will do")]
        let at = (place * (content_of_file.len() - bytes.len()) as f64) as usize;
        content_of_file[at..at + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, &content_of_file).unwrap();
        match Store::open(home.path(), &realm()) {
            Ok((_, kept)) => prop_assert_eq!(content(&kept), expected),
            Err(error) => prop_assert!(matches!(error, StoreError::Content { .. }), "{:?}", error),
        }
    }
}
