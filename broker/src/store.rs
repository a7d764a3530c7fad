//! The file that outlives the broker: retained messages, and the wills of live sessions.
//!
//! It is only read at the start. After that the broker's memory is the truth, and this its copy. The library keeps a lock
//! on the file, so that there is one broker a store.

mod place;
mod tables;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::Label;
use redb::Database;

use crate::journal::Batch;
use crate::message::Message;
use crate::store::place::Place;
use crate::store::tables::FORMAT;

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
            Self::Open { .. } => Some(
                "the broker's user has to be able to write there; `store` below `[broker]` in `server.toml` names another directory"
                    .to_owned(),
            ),
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
        let place = Place::new(directory, realm);
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
        let place = Place::new(directory, realm);
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
        tables::write(&database, batch, &state)
            .map_err(|error| CommitError::Write(Box::new(error)))?;
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

#[cfg(test)]
mod tests;
