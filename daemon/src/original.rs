//! The original's files, which are taken over as they are: `KEY=VALUE` lines that a shell reads.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use protocol::{Label, NameError};

use crate::device_file::DeviceFile;
use crate::files::{self, FileError};
use crate::realm_file::MAX_CONFIG;

/// What an original's `properties.txt` says about the device in whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// The realm that it belongs to.
    pub realm: Label,
    /// The device, as a device file says it.
    pub device: DeviceFile,
}

/// Why an original's file cannot be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginalError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It lacks something.
    #[error("`{}` does not say `{key}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        key: &'static str,
    },
    /// A name in it is none here: the original took everything.
    #[error("the `{key}` of `{}` cannot be used", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Which name.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

impl Properties {
    /// Reads a device's `properties.txt`.
    pub fn load(path: &Path) -> Result<Self, OriginalError> {
        let values = parse(&files::read_text(path, MAX_CONFIG)?);
        let name = |key: &'static str| {
            let value = values.get(key).ok_or_else(|| OriginalError::Missing {
                path: path.to_owned(),
                key,
            })?;
            value
                .parse::<Label>()
                .map_err(|source| OriginalError::Name {
                    path: path.to_owned(),
                    key,
                    source,
                })
        };
        let mut device = DeviceFile::new(name("SYSTEM")?, name("DEVICE")?);
        // -1 means any.
        device.port = values
            .get("sshProxyPort")
            .and_then(|port| port.parse::<NonZeroU16>().ok());
        Ok(Self {
            realm: name("REALM")?,
            device,
        })
    }
}

/// Reads `KEY=VALUE` lines as a shell does that finds only plain values: comments and blank lines are left out, and a value may
/// stand in quotes.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let key = key.strip_prefix("export ").unwrap_or(key).trim();
            Some((key.to_owned(), unquoted(value.trim()).to_owned()))
        })
        .collect()
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// The file's name in a device's directory.
pub const PROPERTIES_FILE: &str = "properties.txt";

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Properties, OriginalError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(PROPERTIES_FILE);
        files::write_public(&path, text.as_bytes()).unwrap();
        Properties::load(&path)
    }

    #[test]
    fn a_device_is_what_its_properties_say() {
        let text =
            "REALM=atlas\nSYSTEM=hula\nDEVICE=333\nbroker=x.example.org\nsshProxyPort=61333\n";
        let found = load(text).unwrap();
        assert_eq!(found.realm.as_str(), "atlas");
        assert_eq!(found.device.device.as_str(), "333");
        assert_eq!(found.device.port.map(NonZeroU16::get), Some(61_333));
        let any = load(&text.replace("61333", "-1")).unwrap();
        assert_eq!(any.device.port, None);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let missing = load("REALM=atlas\nSYSTEM=hula\n").unwrap_err();
        assert!(matches!(
            missing,
            OriginalError::Missing { key: "DEVICE", .. }
        ));
        let wrong = load("REALM=atlas\nSYSTEM=Hula\nDEVICE=333\n").unwrap_err();
        assert!(matches!(wrong, OriginalError::Name { key: "SYSTEM", .. }));
    }

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        let found = parse("# a comment\nexport A=\"b c\"\n\n B = 'd'\nno value\nC=\nD=e=f");
        let expected = [("A", "b c"), ("B", "d"), ("C", ""), ("D", "e=f")];
        let found: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
    }
}
