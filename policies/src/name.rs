//! The text that may stand for a variable or for a realm's name.

/// The longest such text, in octets: a DNS name (RFC 1035, section 2.3.4). Device ids and client ids are no longer.
pub const MAX_NAME: usize = 253;

/// Why a text may not become part of a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// An empty level would let `a//b` mean something.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_NAME`].
    #[error("{length} bytes are more than {MAX_NAME}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that means something in a topic, a filter, a policy or an access file, or might.
    #[error("only letters, digits, `-`, `.` and `_` may be in it, not {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

/// Refuses everything but plain ASCII names. Named characters are let in rather than the known dangerous ones kept out
/// (`*`, `?`, `$`, `{`, `/`, `+`, `#`, line breaks), because the next broker's dangerous one is not known.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { length: name.len() });
    }
    let foreign = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    match name.chars().find(foreign) {
        Some(found) => Err(NameError::Character { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_elsewhere_is_no_name() {
        for found in [
            '*', '?', '$', '{', '}', '/', '+', '#', '%', ':', ' ', '\n', '\0', '"', 'é',
        ] {
            assert_eq!(
                check(&format!("a{found}")),
                Err(NameError::Character { found })
            );
        }
        assert_eq!(check(""), Err(NameError::Empty));
        assert_eq!(
            check(&"a".repeat(254)),
            Err(NameError::TooLong { length: 254 })
        );
        assert_eq!(check(&"a".repeat(253)), Ok(()));
        assert_eq!(check("333.hula.atlas.example.org"), Ok(()));
    }
}
