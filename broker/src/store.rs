//! The file that outlives the broker: retained messages, and the wills of live sessions.
//!
//! It is only read at the start. After that the broker's memory is the truth, and this its copy. The library keeps a lock
//! on the file, so that there is one broker a store.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::Label;
use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableHandle,
};

use crate::journal::Batch;
use crate::limits::STORE_CACHE;
use crate::message::Message;

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    place: Place,
    /// None after a failure, until it has been opened anew.
    database: Option<Database>,
    state: State,
    /// Makes the states of this broker others than those of an earlier one.
    origin: u128,
    commits: u64,
    /// What is in the file may be something else than what was written last: all of it has to be written.
    is_foreign: bool,
}

/// How the file knows what was written last: a mark that every transaction changes.
#[derive(Debug, Default)]
struct State {
    written: String,
    /// Of a transaction that has failed; it may be on the disk all the same.
    tried: Option<String>,
}

/// What a store had at the start.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The retained messages.
    pub(crate) retained: Vec<Message>,
    /// The client ids of the sessions that were live, and their wills.
    pub(crate) wills: Vec<(Box<str>, Message)>,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory or the file cannot be opened or made.
    #[error("the broker's store `{}` cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another broker has it.
    #[error("the broker's store `{}` is in use by another broker", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is of no use.
    #[error("the broker's store `{}` cannot be used", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ContentError,
    },
}

/// What is wrong with the content of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It is not a database, or not any more.
    #[error("it is damaged, or no store")]
    Damaged(#[source] Box<redb::Error>),
    /// Somebody has cut it off: a store that is new has a beginning.
    #[error("it is empty")]
    Empty,
    /// It is a database of somebody else.
    #[error("it is a database, but not a broker's")]
    Foreign,
    /// It was written by another version of this program or its database.
    #[error("it has format {found}, and this version reads format {FORMAT}")]
    Format {
        /// Its format.
        found: String,
    },
    /// It belongs to another realm.
    #[error("it belongs to the realm `{realm}`")]
    Realm {
        /// That realm.
        realm: String,
    },
    /// One entry cannot be read.
    #[error("its entry `{key}` cannot be read")]
    Entry {
        /// Which.
        key: String,
    },
}

/// Why changes could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CommitError {
    #[error("the store is not the one that was written last")]
    Foreign,
    #[error("the store cannot be opened anew")]
    Reopen(#[source] StoreError),
    #[error("the store cannot be written")]
    Write(#[source] Box<redb::Error>),
}

impl StoreError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { .. } => None,
            Self::InUse { .. } => Some(
                "stop that broker first, or give this one a store of its own: `store` below `[broker]` in `server.toml`"
                    .to_owned(),
            ),
            Self::Content { path, source } => match source {
                ContentError::Realm { .. } => Some(
                    "each realm needs a store of its own: `store` below `[broker]` in `server.toml`"
                        .to_owned(),
                ),
                ContentError::Damaged(_)
                | ContentError::Empty
                | ContentError::Foreign
                | ContentError::Format { .. }
                | ContentError::Entry { .. } => Some(format!(
                    "it is left as it is; restore it, or move it away with `mv {0} {0}.bad`: presences come back with their \
                     agents, and devices that are away are unknown until then",
                    path.display()
                )),
            },
        }
    }
}

impl Store {
    /// Opens the store in this directory, or makes one, and reads all of it.
    pub(crate) fn open(directory: &Path, realm: &Label) -> Result<(Self, Kept), StoreError> {
        let place = Place {
            path: directory.join(FILE),
            realm: realm.clone(),
        };
        let database = place.open()?;
        let kept = place.read(&database)?;
        let written = place.state(&database)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let store = Self {
            place,
            database: Some(database),
            state: State {
                written,
                tried: None,
            },
            origin: since.unwrap_or_default().as_nanos(),
            commits: 0,
            is_foreign: false,
        };
        Ok((store, kept))
    }

    /// Whether there is a store in this directory, and that it can be used. One that is new is not made.
    pub(crate) fn check(directory: &Path, realm: &Label) -> Result<bool, StoreError> {
        let place = Place {
            path: directory.join(FILE),
            realm: realm.clone(),
        };
        let exists = fs::exists(&place.path).map_err(|source| place.unusable(source))?;
        if exists {
            place.read(&place.open()?)?;
        }
        Ok(exists)
    }

    /// After a failure the file is opened anew. Whether the next transaction has to have everything, as what is in the file
    /// now is not what was written last. Blocks.
    pub(crate) fn wants_everything(&mut self) -> Result<bool, CommitError> {
        if self.database.is_none() {
            let database = self.place.open().map_err(CommitError::Reopen)?;
            let found = self.place.state(&database).map_err(CommitError::Reopen)?;
            let known = [Some(&self.state.written), self.state.tried.as_ref()];
            if !known.contains(&Some(&found)) {
                self.is_foreign = true;
                tracing::warn!(
                    path = %self.place.path.display(),
                    "the broker's store is not the one that was written last, and is written as a whole"
                );
            }
            self.database = Some(database);
        }
        Ok(self.is_foreign)
    }

    /// Writes changes as one: all of them are on the disk when this returns, or none. Blocks.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if self.wants_everything()? && !batch.is_everything {
            return Err(CommitError::Foreign);
        }
        // After a failure the library wants to be opened anew.
        let Some(database) = self.database.take() else {
            return Err(CommitError::Foreign);
        };
        self.commits += 1;
        let state = format!("{}-{}", self.origin, self.commits);
        self.state.tried = Some(state.clone());
        write(&database, batch, &state).map_err(|error| CommitError::Write(Box::new(error)))?;
        self.state = State {
            written: state,
            tried: None,
        };
        self.is_foreign = false;
        self.database = Some(database);
        Ok(())
    }

    /// Closes the file, so that another broker may have it. Blocks.
    pub(crate) fn close(&mut self) {
        self.database = None;
    }
}

/// Where a store is, and whose.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    realm: Label,
}

impl Place {
    /// Opens the file, which is made if it is missing.
    fn open(&self) -> Result<Database, StoreError> {
        let unusable = |source| self.unusable(source);
        if !fs::exists(&self.path).map_err(unusable)? {
            self.make()?;
        }
        let file = options().open(&self.path).map_err(unusable)?;
        if file.metadata().map_err(unusable)?.len() == 0 {
            return Err(StoreError::Content {
                path: self.path.clone(),
                source: ContentError::Empty,
            });
        }
        let backend = FileBackend::new(file).map_err(|error| self.fault(error.into()))?;
        self.open_backend(backend)
    }

    /// Makes a store for nobody else. It has its name only when it is one: what has the name and is empty is none.
    fn make(&self) -> Result<(), StoreError> {
        let unusable = |source| self.unusable(source);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if !fs::exists(directory).map_err(unusable)? {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(unusable)?;
            if let Some(parent) = directory.parent() {
                sync_directory(parent).map_err(unusable)?;
            }
        }
        let unfinished = self.path.with_extension("new");
        let file = options()
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&unfinished)
            .map_err(unusable)?;
        // From here on it is locked. What a broker has left that died at it is no use.
        let backend = FileBackend::new(file).map_err(|error| self.fault(error.into()))?;
        if fs::exists(&self.path).map_err(unusable)? {
            return Ok(());
        }
        backend.set_len(0).map_err(unusable)?;
        let database = self.open_backend(backend)?;
        begin(&database, &self.realm).map_err(|error| self.fault(error))?;
        fs::rename(&unfinished, &self.path).map_err(unusable)?;
        // Without it the file may be gone after a power cut, whatever was synced in it.
        sync_directory(directory).map_err(unusable)
    }

    fn open_backend(&self, backend: impl StorageBackend) -> Result<Database, StoreError> {
        redb::Builder::new()
            .set_cache_size(STORE_CACHE)
            // A damaged file is then an error, and not a panic or nonsense later.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|error| self.fault(error.into()))
    }

    /// Everything in a database, if it is this realm's store.
    fn read(&self, database: &Database) -> Result<Kept, StoreError> {
        self.understood(self.about(database)?)?;
        self.understood(read(database).map_err(|error| self.fault(error))?)
    }

    /// The mark of its last transaction, if it is this realm's store.
    fn state(&self, database: &Database) -> Result<String, StoreError> {
        self.understood(self.about(database)?)
    }

    fn about(&self, database: &Database) -> Result<Result<String, ContentError>, StoreError> {
        about(database, &self.realm).map_err(|error| self.fault(error))
    }

    fn understood<T>(&self, content: Result<T, ContentError>) -> Result<T, StoreError> {
        content.map_err(|source| StoreError::Content {
            path: self.path.clone(),
            source,
        })
    }

    fn unusable(&self, source: io::Error) -> StoreError {
        StoreError::Open {
            path: self.path.clone(),
            source,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's errors are many, and it may add more"
    )]
    fn fault(&self, error: redb::Error) -> StoreError {
        let path = self.path.clone();
        let source = match error {
            redb::Error::DatabaseAlreadyOpen => return StoreError::InUse { path },
            // The library says so of a file that does not begin as its own do.
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => {
                return StoreError::Open { path, source };
            }
            redb::Error::UpgradeRequired(found) => ContentError::Format {
                found: format!("{found} of its database"),
            },
            other => ContentError::Damaged(Box::new(other)),
        };
        StoreError::Content { path, source }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let directory = if directory.as_os_str().is_empty() {
        here
    } else {
        directory
    };
    File::open(directory)?.sync_all()
}

/// Makes a new database a store.
fn begin(database: &Database, realm: &Label) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut about = writing.open_table(ABOUT)?;
        about.insert("format", FORMAT)?;
        about.insert("realm", realm.as_str())?;
        about.insert("state", "new")?;
        writing.open_table(RETAINED)?;
        writing.open_table(WILLS)?;
    }
    Ok(writing.commit()?)
}

/// The mark of a store's last transaction.
fn about(database: &Database, realm: &Label) -> Result<Result<String, ContentError>, redb::Error> {
    let reading = database.begin_read()?;
    if !reading
        .list_tables()?
        .any(|table| table.name() == ABOUT.name())
    {
        return Ok(Err(ContentError::Foreign));
    }
    let about = reading.open_table(ABOUT)?;
    let found = |key| -> Result<String, redb::Error> {
        let value = about.get(key)?;
        Ok(value
            .map(|value| value.value().to_owned())
            .unwrap_or_default())
    };
    let (format, owner) = (found("format")?, found("realm")?);
    if format != FORMAT {
        return Ok(Err(ContentError::Format { found: format }));
    }
    if owner != realm.as_str() {
        return Ok(Err(ContentError::Realm { realm: owner }));
    }
    Ok(Ok(found("state")?))
}

/// Everything in a store.
fn read(database: &Database) -> Result<Result<Kept, ContentError>, redb::Error> {
    let reading = database.begin_read()?;
    let mut kept = Kept::default();
    for entry in reading.open_table(RETAINED)?.iter()? {
        let (topic, bytes) = entry?;
        match Message::decode(bytes.value()) {
            Some(message) if message.topic.as_str() == topic.value() => kept.retained.push(message),
            Some(_) | None => {
                let key = topic.value().to_owned();
                return Ok(Err(ContentError::Entry { key }));
            }
        }
    }
    for entry in reading.open_table(WILLS)?.iter()? {
        let (client_id, bytes) = entry?;
        let client_id = client_id.value();
        let Some(will) = Message::decode(bytes.value()) else {
            let key = client_id.to_owned();
            return Ok(Err(ContentError::Entry { key }));
        };
        kept.wills.push((client_id.into(), will));
    }
    Ok(Ok(kept))
}

fn write(database: &Database, batch: &Batch, state: &str) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    if batch.is_everything {
        writing.delete_table(RETAINED)?;
        writing.delete_table(WILLS)?;
    }
    {
        writing.open_table(ABOUT)?.insert("state", state)?;
        let mut retained = writing.open_table(RETAINED)?;
        for entry in &batch.retained {
            let message = &entry.0;
            if message.payload.is_empty() {
                retained.remove(message.topic.as_str())?;
            } else {
                retained.insert(message.topic.as_str(), &message.encode()[..])?;
            }
        }
        let mut wills = writing.open_table(WILLS)?;
        for (client_id, will) in &batch.wills {
            match will {
                Some(will) => wills.insert(&**client_id, &will.encode()[..])?,
                None => wills.remove(&**client_id)?,
            };
        }
    }
    Ok(writing.commit()?)
}

/// The file in the store's directory.
const FILE: &str = "broker.redb";

/// The format of what is in it. It changes whenever an older broker would misread what a newer one writes.
const FORMAT: &str = "1";

const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// Topic to message.
const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
/// Client id to message.
const WILLS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("wills");

#[cfg(test)]
mod tests;
