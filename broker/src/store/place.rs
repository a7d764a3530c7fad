//! Where a store is: its file is made, opened, and found to be this realm's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use protocol::Label;
use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use crate::limits::STORE_CACHE;
use crate::store::{ContentError, Kept, StoreError, tables};

/// Where a store is, and whose.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    realm: Label,
}

impl Place {
    pub(super) fn new(directory: &Path, realm: &Label) -> Self {
        Self {
            path: directory.join(FILE),
            realm: realm.clone(),
        }
    }

    /// Opens the file, which is made if it is missing.
    pub(super) fn open(&self) -> Result<Database, StoreError> {
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
        tables::begin(&database, &self.realm).map_err(|error| self.fault(error))?;
        fs::rename(&unfinished, &self.path).map_err(unusable)?;
        // Without it the file may be gone after a power cut, whatever was synced in it.
        sync_directory(directory).map_err(unusable)
    }

    pub(super) fn open_backend(
        &self,
        backend: impl StorageBackend,
    ) -> Result<Database, StoreError> {
        redb::Builder::new()
            .set_cache_size(STORE_CACHE)
            // A damaged file is then an error, and not a panic or nonsense later.
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|error| self.fault(error.into()))
    }

    /// Everything in a database, if it is this realm's store.
    pub(super) fn read(&self, database: &Database) -> Result<Kept, StoreError> {
        self.understood(self.about(database)?)?;
        self.understood(tables::read(database).map_err(|error| self.fault(error))?)
    }

    /// The mark of its last transaction, if it is this realm's store.
    pub(super) fn state(&self, database: &Database) -> Result<String, StoreError> {
        self.understood(self.about(database)?)
    }

    fn about(&self, database: &Database) -> Result<Result<String, ContentError>, StoreError> {
        tables::about(database, &self.realm).map_err(|error| self.fault(error))
    }

    fn understood<T>(&self, content: Result<T, ContentError>) -> Result<T, StoreError> {
        content.map_err(|source| StoreError::Content {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn unusable(&self, source: io::Error) -> StoreError {
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

pub(super) fn options() -> OpenOptions {
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

/// The file in the store's directory.
pub(super) const FILE: &str = "broker.redb";
