//! What has been issued: the signer's memory over restarts.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use enrollment::Title;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{Issued, request_identity};

/// A directory with one file for each certificate, named after the request that it answers. A request is
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
    /// What AWS knows it by, if AWS IoT Core has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aws: Option<AwsCertificate>,
}

/// A certificate of AWS IoT Core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AwsCertificate {
    /// Its id, which is the SHA-256 of its DER.
    pub(crate) id: String,
    /// Its full name.
    pub(crate) arn: String,
    /// Whether it has its policy and has been made active. It is handed out only then.
    pub(crate) active: bool,
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
        let record = new_record(title, issued, None);
        self.write(title, body, &record)?;
        Ok(record)
    }

    /// Does the same with a certificate of AWS IoT Core.
    #[cfg(feature = "aws")]
    pub(crate) fn record_aws(
        &self,
        title: &Title,
        body: &str,
        issued: &Issued,
        certificate: AwsCertificate,
    ) -> Result<Record, JournalError> {
        let record = new_record(title, issued, Some(certificate));
        self.write(title, body, &record)?;
        Ok(record)
    }

    /// Writes down that a certificate of AWS IoT Core has been made active.
    #[cfg(feature = "aws")]
    pub(crate) fn activated(
        &self,
        title: &Title,
        body: &str,
        record: &Record,
    ) -> Result<Record, JournalError> {
        let aws = record.aws.clone().map(|certificate| AwsCertificate {
            active: true,
            ..certificate
        });
        let record = Record {
            aws,
            ..record.clone()
        };
        self.write(title, body, &record)?;
        Ok(record)
    }

    /// The ids of all certificates of AWS IoT Core that were written down.
    #[cfg(feature = "aws")]
    pub(crate) fn aws_certificates(
        &self,
    ) -> Result<std::collections::HashSet<String>, JournalError> {
        let records = records(&self.directory)?;
        Ok(records
            .into_iter()
            .filter_map(|record| Some(record.aws?.id))
            .collect())
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

    /// The file of a request's record.
    pub(crate) fn path(&self, title: &Title, body: &str) -> PathBuf {
        let name = request_identity::of(title, body);
        self.directory.join(format!("{name}{ENDING}"))
    }
}

fn new_record(title: &Title, issued: &Issued, aws: Option<AwsCertificate>) -> Record {
    Record {
        v: 1,
        request: title.to_string(),
        serial: issued.serial.clone(),
        not_after: issued.not_after.unix_timestamp(),
        certificate: issued.certificate_pem.clone(),
        delivered: false,
        aws,
    }
}

/// All records of a journal, which another process may have open. No directory is no records.
pub(crate) fn records(directory: &Path) -> Result<Vec<Record>, JournalError> {
    let Readable {
        records,
        unreadable,
    } = readable(directory)?;
    unreadable.into_iter().next().map_or(Ok(records), Err)
}

/// What of a journal can be read, and why the rest cannot.
#[derive(Debug, Default)]
pub(crate) struct Readable {
    pub(crate) records: Vec<Record>,
    pub(crate) unreadable: Vec<JournalError>,
}

/// The records that can be read, for work that must not wait until somebody has mended the others. Certificates are no
/// secret: a record that others can read, as after a restoration, counts like any.
pub(crate) fn readable(directory: &Path) -> Result<Readable, JournalError> {
    let fail = |source| {
        JournalError::File(FileError::Read {
            path: directory.to_owned(),
            source,
        })
    };
    let files = match fs::read_dir(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Readable::default()),
        Err(error) => return Err(fail(error)),
    };
    let mut found = Readable::default();
    for file in files {
        let path = file.map_err(fail)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // What begins with a dot is half written.
        if name.ends_with(ENDING) && !name.starts_with('.') {
            let text = files::read_text(&path, MAX_RECORD).map_err(JournalError::File);
            match text.and_then(|text| parse(&text, path)) {
                Ok(record) => found.records.push(record),
                Err(error) => found.unreadable.push(error),
            }
        }
    }
    Ok(found)
}

fn read(path: PathBuf) -> Result<Record, JournalError> {
    let text = files::read_private(&path, MAX_RECORD)?;
    parse(&text, path)
}

fn parse(text: &str, path: PathBuf) -> Result<Record, JournalError> {
    serde_json::from_str(text).map_err(|source| JournalError::Record { path, source })
}

impl JournalError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => {
                Some("stop the other signer first, perhaps `tunnel serve`".to_owned())
            }
            Self::File(source) => source.hint(),
            Self::Record { path, .. } => Some(format!(
                "put `{}` back from a backup; what it tells of cannot be revoked without it, other than by hand in `revoked.toml`",
                path.display()
            )),
            Self::Lock { .. } => {
                Some("run the command as the user whose the realm's directory is".to_owned())
            }
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
