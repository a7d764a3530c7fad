//! Words in ssh's settings, written so that ssh reads them as they were.

use std::path::{Path, PathBuf};

/// A path that no setting of ssh's can hold.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be written into ssh's settings", path.display().to_string().escape_debug())]
pub struct UnwritablePath {
    path: PathBuf,
}

impl UnwritablePath {
    /// What the person can do about it.
    pub fn hint(&self) -> String {
        "use a path of UTF-8 text without control characters and without `${`".to_owned()
    }
}

/// A path for ssh's settings. Not every one can be: a line has no way to hold the end of a line, and what looks like the name of a
/// variable is replaced by its value.
pub(crate) fn writable(path: &Path) -> Result<&str, UnwritablePath> {
    path.to_str()
        .filter(|text| !text.chars().any(char::is_control) && !text.contains("${"))
        .ok_or_else(|| UnwritablePath {
            path: path.to_owned(),
        })
}

/// A word for the shell that runs a ProxyCommand, behind ssh's own expansion of `%`.
pub(crate) fn shell_word(text: &str) -> String {
    plain_shell_word(&text.replace('%', "%%"))
}

/// A word for a shell.
pub(crate) fn plain_shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A word of an option that takes several, behind ssh's own expansion of `%`.
pub(crate) fn option_word(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{}\"", text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_that_would_be_another_is_refused() {
        assert_eq!(writable(Path::new("/a b/100%")).unwrap(), "/a b/100%");
        for path in ["/a\nProxyCommand evil", "/a\tb", "/${HOME}/x"] {
            let error = writable(Path::new(path)).unwrap_err();
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert!(writable(Path::new(OsStr::from_bytes(b"/\xff"))).is_err());
    }
}
