//! What somebody has put into the registry under a name that is none of its titles, although it was meant as one.

use crate::{Author, Kind, Refusal, Revision, Title, TitleError};

/// A file or an issue that ends like a title and is none. Nobody serves it, and its author would wait for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misnamed {
    name: String,
    author: Author,
    revision: Revision,
    error: TitleError,
}

impl Misnamed {
    /// What lies under this name, if it ends like a title and is none. What does not even end like one is no business of
    /// ours: a repository has other issues too.
    pub(crate) fn of(name: &str, author: Author, revision: Revision) -> Option<Self> {
        Kind::ALL
            .iter()
            .find(|kind| name.trim().ends_with(kind.suffix()))?;
        let error = name.parse::<Title>().err()?;
        Some(Self {
            name: name.to_owned(),
            author,
            revision,
            error,
        })
    }

    /// Its name, as it is.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Which state of it this is.
    pub(crate) fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Its name, without what could drive a terminal.
    pub fn shown(&self) -> String {
        self.name.escape_debug().to_string()
    }

    /// Who put it there.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// What its author is told.
    pub fn refusal(&self) -> Refusal {
        let reason = format!(
            "the name `{}` is no title: {}",
            self.shown(),
            daemon::report::one_line(&self.error)
        );
        Refusal::new(&reason, REMEDY)
    }
}

const REMEDY: &str =
    "name it `DEVICE.SYSTEM.REALM` and `.sshkey.pub` or `.x509.csr`, or let `tunnel enroll` do so";

#[cfg(test)]
mod tests {
    use super::*;

    fn misnamed(name: &str) -> Option<Misnamed> {
        let author = Author::LocalUser { uid: 0 };
        Misnamed::of(name, author, Revision::of_body(""))
    }

    #[test]
    fn what_was_meant_as_a_title_is_told_why_it_is_none() {
        for name in [
            "x.evil.hula.atlas.x509.csr",
            "..hula.atlas.x509.csr",
            "../333.hula.atlas.sshkey.pub",
            "333.HULA.atlas.x509.csr",
            "333.hula.atlas.x509.csr ",
            "333.hu\u{1b}la.atlas.x509.csr",
        ] {
            let refusal = misnamed(name).unwrap().refusal();
            assert!(refusal.reason().contains("is no title: "), "{refusal:?}");
            assert!(!refusal.reason().contains('\u{1b}'), "{refusal:?}");
        }
        for name in [
            "333.hula.atlas.x509.csr",
            "333.hula.atlas.x509.csr.refused",
            "How do I make a .csr?",
            "README",
        ] {
            assert_eq!(misnamed(name), None, "{name}");
        }
    }
}
