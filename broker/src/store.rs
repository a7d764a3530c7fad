//! The file that outlives the broker: retained messages, and the wills of live sessions.
//!
//! It is only read at the start. After that the broker's memory is the truth, and this its copy. The library keeps a lock
//! on the file, so that there is one broker a store.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
        let (database, kept) = place.open()?;
        let store = Self {
            place,
            database: Some(database),
        };
        Ok((store, kept))
    }

    /// Writes changes as one: all of them are on the disk when this returns, or none. Blocks.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        // After a failure the library wants to be opened anew.
        let database = match self.database.take() {
            Some(database) => database,
            None => self.place.open().map_err(CommitError::Reopen)?.0,
        };
        write(&database, batch).map_err(|error| CommitError::Write(Box::new(error)))?;
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
    fn open(&self) -> Result<(Database, Kept), StoreError> {
        let file = self.file().map_err(|source| StoreError::Open {
            path: self.path.clone(),
            source,
        })?;
        let backend = FileBackend::new(file).map_err(|error| self.fault(error.into()))?;
        self.open_backend(backend)
    }

    fn open_backend(&self, backend: impl StorageBackend) -> Result<(Database, Kept), StoreError> {
        let database = redb::Builder::new()
            .set_cache_size(STORE_CACHE)
            // A damaged file is then an error, and not a panic or nonsense later.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|error| self.fault(error.into()))?;
        match read(&database, &self.realm) {
            Ok(Ok(kept)) => Ok((database, kept)),
            Ok(Err(source)) => Err(StoreError::Content {
                path: self.path.clone(),
                source,
            }),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// The file, made if it is missing, for nobody else.
    fn file(&self) -> io::Result<File> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let is_new = !fs::exists(&self.path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        if is_new {
            // Without it the file may be gone after a power cut, whatever was synced in it.
            File::open(directory)?.sync_all()?;
        }
        Ok(file)
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

/// Everything in a database, which is made a store if it is new.
fn read(database: &Database, realm: &Label) -> Result<Result<Kept, ContentError>, redb::Error> {
    let reading = database.begin_read()?;
    let names: Vec<String> = reading
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    if names.is_empty() {
        let writing = database.begin_write()?;
        {
            let mut about = writing.open_table(ABOUT)?;
            about.insert("format", FORMAT)?;
            about.insert("realm", realm.as_str())?;
            writing.open_table(RETAINED)?;
            writing.open_table(WILLS)?;
        }
        writing.commit()?;
        return Ok(Ok(Kept::default()));
    }
    if !names.iter().any(|name| name == ABOUT.name()) {
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

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
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
