//! What has been issued: the signer's memory over restarts.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use enrollment::{Revision, Title, pem_block};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::Issued;

/// A directory with one file for each certificate, named after the digest of the request that it answers. A request is
/// looked up here before it is signed, and what was signed is written here before it is handed out: so a signer that is
/// killed at any point and started again hands out the same certificate, and never makes a second.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    // The lock lives as long as the file is open.
    _lock: File,
}

/// One certificate and the request that it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The form of the record: 1.
    pub(crate) v: u32,
    /// The title of the request.
    pub(crate) request: String,
    /// The certificate's serial number, hexadecimal.
    pub(crate) serial: String,
    /// The end of its validity, in seconds since 1970.
    pub(crate) not_after: i64,
    /// The certificate, PEM.
    pub(crate) certificate: String,
    /// Whether it has been handed out.
    pub(crate) delivered: bool,
}

/// Why the signer cannot remember. It does not sign then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another signer is at work with this journal.
    #[error("another signer is using `{}`", directory.display())]
    InUse {
        /// The journal's directory.
        directory: PathBuf,
    },
    /// The directory could not be made, or the lock not taken for another reason.
    #[error("cannot lock `{}`", directory.display())]
    Lock {
        /// The journal's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record is damaged. To sign again would be to forget what was signed.
    #[error("`{}` is not a record of the signer", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Journal {
    /// Opens the journal for this process alone; makes its directory if there is none.
    pub(crate) fn open(directory: &Path) -> Result<Self, JournalError> {
        let lock = |source| JournalError::Lock {
            directory: directory.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(lock)?;
        let file = File::open(directory).map_err(lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                directory: directory.to_owned(),
                _lock: file,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::InUse {
                directory: directory.to_owned(),
            }),
            Err(error) => Err(lock(error.into())),
        }
    }

    /// What was issued for this request.
    pub(crate) fn find(&self, title: &Title, body: &str) -> Result<Option<Record>, JournalError> {
        match read(self.path(title, body)) {
            Ok(record) => Ok(Some(record)),
            Err(JournalError::File(error)) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down what is issued for this request. It is on the disk when this returns.
    pub(crate) fn record(
        &self,
        title: &Title,
        body: &str,
        issued: &Issued,
    ) -> Result<Record, JournalError> {
        let record = Record {
            v: 1,
            request: title.to_string(),
            serial: issued.serial.clone(),
            not_after: issued.not_after.unix_timestamp(),
            certificate: issued.certificate_pem.clone(),
            delivered: false,
        };
        self.write(title, body, &record)?;
        Ok(record)
    }

    /// Writes down that a certificate has been handed out.
    pub(crate) fn delivered(
        &self,
        title: &Title,
        body: &str,
        record: &Record,
    ) -> Result<(), JournalError> {
        self.write(
            title,
            body,
            &Record {
                delivered: true,
                ..record.clone()
            },
        )
    }

    fn write(&self, title: &Title, body: &str, record: &Record) -> Result<(), JournalError> {
        let path = self.path(title, body);
        let text = serde_json::to_string_pretty(record).map_err(|source| JournalError::Record {
            path: path.clone(),
            source,
        })?;
        Ok(files::write_private(&path, text.as_bytes())?)
    }

    fn path(&self, title: &Title, body: &str) -> PathBuf {
        // What was signed, and not the text around it: the same request with another line break is the same request.
        let request = pem_block::single(body, pem_block::CERTIFICATE_REQUEST)
            .unwrap_or_else(|_| body.as_bytes().to_vec());
        let digest = Revision::of_bytes(&[title.to_string().as_bytes(), b"\n", &request].concat());
        self.directory.join(format!("{digest}{ENDING}"))
    }
}

/// All records of a journal, which another process may have open. No directory is no records.
pub(crate) fn records(directory: &Path) -> Result<Vec<Record>, JournalError> {
    let fail = |source| {
        JournalError::File(FileError::Read {
            path: directory.to_owned(),
            source,
        })
    };
    let files = match fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut records = Vec::new();
    for file in files {
        let path = file.map_err(fail)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // What begins with a dot is half written.
        if name.ends_with(ENDING) && !name.starts_with('.') {
            records.push(read(path)?);
        }
    }
    Ok(records)
}

fn read(path: PathBuf) -> Result<Record, JournalError> {
    let text = files::read_private(&path, MAX_RECORD)?;
    serde_json::from_str(&text).map_err(|source| JournalError::Record { path, source })
}

impl JournalError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => {
                Some("stop the other signer first, perhaps `tunnel serve`".to_owned())
            }
            Self::File(source) => source.hint(),
            Self::Lock { .. } | Self::Record { .. } => None,
        }
    }
}

const ENDING: &str = ".json";

/// The largest record, in bytes: a certificate with the longest names has 3 KiB.
const MAX_RECORD: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn issued() -> Issued {
        Issued {
            certificate_pem: "PEM".to_owned(),
            serial: "0A".to_owned(),
            not_after: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_was_written_is_known_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let title: Title = "333.hula.atlas.x509.csr".parse().unwrap();
        let other: Title = "334.hula.atlas.x509.csr".parse().unwrap();
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(journal.find(&title, "request").unwrap(), None);
        let record = journal.record(&title, "request", &issued()).unwrap();
        drop(journal);
        let journal = Journal::open(home.path()).unwrap();
        assert_eq!(
            journal.find(&title, "request").unwrap(),
            Some(record.clone())
        );
        assert_eq!(journal.find(&title, "another").unwrap(), None);
        assert_eq!(journal.find(&other, "request").unwrap(), None);
        journal.delivered(&title, "request", &record).unwrap();
        assert!(journal.find(&title, "request").unwrap().unwrap().delivered);
    }

    #[test]
    fn another_line_break_makes_no_other_request() {
        let home = tempfile::tempdir().unwrap();
        let title: Title = "333.hula.atlas.x509.csr".parse().unwrap();
        let journal = Journal::open(home.path()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let suffix = protocol::ClientIdSuffix::default();
        let request = enrollment::csr::create(&key, title.id(), &suffix).unwrap();
        journal.record(&title, &request, &issued()).unwrap();
        let dressed = format!("\n{}\r\n\r\n", request.trim().replace('\n', "\r\n"));
        assert!(journal.find(&title, &dressed).unwrap().is_some());
        assert_eq!(records(home.path()).unwrap().len(), 1);
        assert!(records(&home.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn there_is_one_signer_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let first = Journal::open(home.path()).unwrap();
        assert!(matches!(
            Journal::open(home.path()),
            Err(JournalError::InUse { .. })
        ));
        drop(first);
        Journal::open(home.path()).unwrap();
    }

    #[test]
    fn a_damaged_record_is_not_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let title: Title = "333.hula.atlas.x509.csr".parse().unwrap();
        let journal = Journal::open(home.path()).unwrap();
        files::write_private(&journal.path(&title, "request"), b"{\"v\":1").unwrap();
        assert!(matches!(
            journal.find(&title, "request"),
            Err(JournalError::Record { .. })
        ));
    }
}
