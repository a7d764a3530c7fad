//! The realm's policies: its own documents where it has some, and else those that come with the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use policies::{MAX_DOCUMENT, ParseError, Policy, PolicySet, RealmError, RoleDocument};
use protocol::Label;

/// Why the policies cannot be enforced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoliciesError {
    /// The directory cannot be looked into.
    #[error("cannot read `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A document cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document is refused.
    #[error("policy `{name}` is refused")]
    Document {
        /// Its file, or its name if it comes with the program.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A document that decided a moment ago. While a new one is brought nobody gets what the program's own would permit.
    #[error("`{}` has gone", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A document of a name that decides about nobody: more likely a typing error than meant so.
    #[error("`{}` is no policy of the broker's: those are `tunnel.target.json` and `tunnel.controller.json`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The realm's name cannot be put into them.
    #[error(transparent)]
    Realm(#[from] RealmError),
}

/// Reads the policies of a realm whose own documents are in this directory; where one is not there, the program's counts.
pub fn load_policies(directory: Option<&Path>, realm: &Label) -> Result<PolicySet, PoliciesError> {
    let [target, controller] = RoleDocument::ALL.map(|role| load_policy(directory, role));
    Ok(PolicySet::new(&target?, &controller?, realm.as_str())?)
}

/// Reads the policy of a role, as [`load_policies`] does.
pub fn load_policy(directory: Option<&Path>, role: RoleDocument) -> Result<Policy, PoliciesError> {
    if let Some(directory) = directory {
        refuse_strangers(directory)?;
    }
    let own = directory
        .map(|directory| own(directory, role))
        .transpose()?;
    let (name, text) = match own.flatten() {
        Some(path) => {
            // One more than is parsed: that it is too long is the parser's to say.
            let text = files::read_bounded(&path, MAX_DOCUMENT + 1)?;
            (path.display().to_string(), text)
        }
        None => (role.name().to_owned(), role.json().as_bytes().to_vec()),
    };
    Policy::parse(&text).map_err(|source| PoliciesError::Document { name, source })
}

/// Where a role's own document is, if there is one. One that cannot be read, or a link to nothing, is there.
pub(crate) fn own(directory: &Path, role: RoleDocument) -> Result<Option<PathBuf>, PoliciesError> {
    let path = path(directory, role);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PoliciesError::Directory { path, source }),
    }
}

/// Where a role's document would be.
pub(crate) fn path(directory: &Path, role: RoleDocument) -> PathBuf {
    directory.join(format!("{}.json", role.name()))
}

fn refuse_strangers(directory: &Path) -> Result<(), PoliciesError> {
    let fail = |source| PoliciesError::Directory {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // A link to nothing is no directory that nobody has made.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && fs::symlink_metadata(directory).is_err() =>
        {
            return Ok(());
        }
        Err(error) => return Err(fail(error)),
    };
    for entry in entries {
        let found = entry.map_err(fail)?.path();
        let is_ours = RoleDocument::ALL
            .map(|role| path(directory, role))
            .contains(&found);
        if found
            .extension()
            .is_some_and(|extension| extension == "json")
            && !is_ours
        {
            return Err(PoliciesError::Unknown { path: found });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_documents_replace_those_of_the_program_one_by_one() {
        let home = tempfile::tempdir().unwrap();
        let realm: Label = "atlas".parse().unwrap();
        let bundled = PolicySet::for_realm("atlas").unwrap();
        assert_eq!(load_policies(None, &realm).unwrap(), bundled);
        assert_eq!(load_policies(Some(home.path()), &realm).unwrap(), bundled);
        assert_eq!(
            load_policies(Some(&home.path().join("none")), &realm).unwrap(),
            bundled
        );
        let target = path(home.path(), RoleDocument::Target);
        fs::write(&target, RoleDocument::Controller.json()).unwrap();
        let own = load_policies(Some(home.path()), &realm).unwrap();
        assert_eq!(
            own.get(RoleDocument::Target),
            bundled.get(RoleDocument::Controller)
        );
        fs::write(&target, "{}").unwrap();
        assert!(matches!(
            load_policies(Some(home.path()), &realm),
            Err(PoliciesError::Document { name, .. }) if name.ends_with("tunnel.target.json")
        ));
        fs::write(&target, " ".repeat(MAX_DOCUMENT + 1)).unwrap();
        assert!(matches!(
            load_policies(Some(home.path()), &realm),
            Err(PoliciesError::Document {
                source: ParseError::TooLong { .. },
                ..
            })
        ));
    }

    #[test]
    fn a_document_that_cannot_be_read_is_not_one_that_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let realm: Label = "atlas".parse().unwrap();
        let target = path(home.path(), RoleDocument::Target);
        std::os::unix::fs::symlink(home.path().join("none"), &target).unwrap();
        let dangling = load_policies(Some(home.path()), &realm);
        assert!(
            matches!(dangling, Err(PoliciesError::File(_))),
            "{dangling:?}"
        );
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(own(&file, RoleDocument::Target).is_err());
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.path().join("none"), &link).unwrap();
        let dangling = load_policies(Some(&link), &realm);
        assert!(
            matches!(dangling, Err(PoliciesError::Directory { .. })),
            "{dangling:?}"
        );
    }

    #[test]
    fn a_name_with_a_typing_error_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("tunnel.targets.json"), "{}").unwrap();
        fs::write(home.path().join("README"), "").unwrap();
        assert!(matches!(
            load_policies(Some(home.path()), &"atlas".parse().unwrap()),
            Err(PoliciesError::Unknown { path }) if path.ends_with("tunnel.targets.json")
        ));
    }
}
