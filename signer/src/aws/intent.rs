//! That a certificate is about to be made, written down before it is.

use std::fs;
use std::path::PathBuf;

use daemon::files::{self, FileError};
use enrollment::Title;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::JournalError;
use crate::journal::Journal;

/// What AWS may have been asked for and the journal does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// The form of the file: 1.
    v: u32,
    /// The title of the request.
    request: String,
    /// When AWS was asked for the first time, in seconds since 1970.
    pub(super) since: i64,
}

/// The intent that an earlier run has left, if this request's certificate is not in the journal yet.
pub(super) fn left(
    journal: &Journal,
    title: &Title,
    body: &str,
) -> Result<Option<Intent>, JournalError> {
    let path = path(journal, title, body);
    match files::read_private(&path, MAX_FILE) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| JournalError::Record { path, source }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes it down. It is on the disk when this returns.
pub(super) fn write(
    journal: &Journal,
    title: &Title,
    body: &str,
    now: OffsetDateTime,
) -> Result<(), JournalError> {
    let path = path(journal, title, body);
    let intent = Intent {
        v: 1,
        request: title.to_string(),
        since: now.unix_timestamp(),
    };
    let text = serde_json::to_string(&intent).map_err(|source| JournalError::Record {
        path: path.clone(),
        source,
    })?;
    Ok(files::write_private(&path, text.as_bytes())?)
}

/// Forgets it, when the journal has the certificate. Left behind by an interruption it does no harm: the journal is asked
/// first.
pub(super) fn forget(journal: &Journal, title: &Title, body: &str) -> Result<(), JournalError> {
    let path = path(journal, title, body);
    match fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::Write { path, source }.into()),
    }
}

fn path(journal: &Journal, title: &Title, body: &str) -> PathBuf {
    journal.path(title, body).with_extension("intent")
}

/// The largest file, in bytes: a title has 270 at most.
const MAX_FILE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::records;

    #[test]
    fn an_intent_is_known_after_a_restart_and_is_no_record() {
        let home = tempfile::tempdir().unwrap();
        let title: Title = "333.hula.atlas.x509.csr".parse().unwrap();
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(left(&journal, &title, "request").unwrap(), None);
        write(&journal, &title, "request", OffsetDateTime::UNIX_EPOCH).unwrap();
        drop(journal);
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(left(&journal, &title, "request").unwrap().unwrap().since, 0);
        assert_eq!(left(&journal, &title, "another").unwrap(), None);
        assert!(records(home.path()).unwrap().is_empty());
        forget(&journal, &title, "request").unwrap();
        forget(&journal, &title, "request").unwrap();
        assert_eq!(left(&journal, &title, "request").unwrap(), None);
    }
}
