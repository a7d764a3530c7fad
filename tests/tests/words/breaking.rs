//! A file that is broken for as long as one command runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::book::Book;

/// A file that is otherwise until this is dropped.
pub(super) struct Break(Option<Before>);

/// How it was.
struct Before {
    path: PathBuf,
    text: Option<Vec<u8>>,
    mode: u32,
}

impl Break {
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    fn of(path: &Path) -> Self {
        let mode = fs::metadata(path).map_or(0o600, |status| status.permissions().mode());
        Self(Some(Before {
            path: path.to_owned(),
            text: fs::read(path).ok(),
            mode,
        }))
    }

    pub(super) fn gone(path: &Path) -> Self {
        let before = Self::of(path);
        fs::remove_file(path).unwrap();
        before
    }

    pub(super) fn mode(path: &Path, mode: u32) -> Self {
        let before = Self::of(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        before
    }

    pub(super) fn to(path: &Path, text: &[u8]) -> Self {
        let before = Self::of(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        before
    }

    #[track_caller]
    pub(super) fn edit(path: &Path, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        Self::to(path, text.replacen(from, to, 1).as_bytes())
    }

    pub(super) fn append(path: &Path, text: &str) -> Self {
        let now = fs::read_to_string(path).unwrap() + text;
        Self::to(path, now.as_bytes())
    }
}

impl Drop for Break {
    fn drop(&mut self) {
        let Some(Before { path, text, mode }) = self.0.take() else {
            return;
        };
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        if path.exists() {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

impl Book {
    /// Runs a command with something broken, and mends it.
    #[track_caller]
    pub(super) fn with(&mut self, what: &str, broken: Break, command: &mut Command) {
        self.write(&format!("# {what}\n"));
        self.type_in(command);
        drop(broken);
    }
}
