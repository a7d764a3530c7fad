//! A package's files as they will lie below `/`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cannot;
use super::package::said;
use crate::step::ChoreError;

/// The folder that stands for `/`.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub(super) fn new(root: PathBuf) -> Self {
        Self(root)
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    /// Puts a program at a place.
    pub(super) fn program(&self, from: &Path, to: &str) -> Result<(), ChoreError> {
        self.copy(from, to, 0o755)
    }

    /// Puts a file at a place.
    pub(super) fn file(&self, from: &Path, to: &str) -> Result<(), ChoreError> {
        self.copy(from, to, 0o644)
    }

    /// Puts the files of a folder into another.
    pub(super) fn folder(&self, from: &Path, to: &str) -> Result<(), ChoreError> {
        for file in files(from)? {
            let name = name(&file);
            self.file(&file, &format!("{to}/{name}"))?;
        }
        Ok(())
    }

    /// The same, compressed, as Debian has manual pages and changelogs.
    pub(super) fn compressed(&self, from: &Path, to: &str) -> Result<(), ChoreError> {
        for file in files(from)? {
            let place = format!("{to}/{}", name(&file));
            self.file(&file, &place)?;
            // Without the file's name and time, so that the same text is the same file.
            said(
                Command::new("gzip")
                    .args(["-9n", "--force"])
                    .arg(self.0.join(&place)),
            )?;
        }
        Ok(())
    }

    /// Writes a text.
    pub(super) fn text(&self, to: &str, text: &str) -> Result<(), ChoreError> {
        let path = self.place(to)?;
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
            .map_err(|error| cannot("write", &path, &error))
    }

    /// What it takes on a disk, as `dpkg` counts.
    pub(super) fn kibibytes(&self) -> Result<u64, ChoreError> {
        let sizes = self.all()?.into_iter().map(|file| {
            let size = fs::metadata(&file).map(|metadata| metadata.size());
            size.map_err(|error| cannot("look at", &file, &error))
        });
        sizes.map(|size| size.map(|size| size.div_ceil(1024))).sum()
    }

    /// `md5sum` of every file but those for the package system itself and those that its user may change.
    pub(super) fn checksums(&self) -> Result<String, ChoreError> {
        let mut sum = Command::new("md5sum");
        sum.current_dir(&self.0);
        for file in self.all()? {
            let file = file.strip_prefix(&self.0).unwrap_or(&file).to_owned();
            if !file.starts_with("DEBIAN") && !file.starts_with("etc") {
                sum.arg(file);
            }
        }
        Ok(format!("{}\n", said(&mut sum)?))
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<(), ChoreError> {
        let path = self.place(to)?;
        fs::copy(from, &path)
            .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|error| cannot("copy", from, &error))
    }

    fn place(&self, to: &str) -> Result<PathBuf, ChoreError> {
        let path = self.0.join(to);
        let mut folder = path.parent();
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
        }
        // Whatever the builder's own umask is.
        while let Some(made) = folder.filter(|made| made.starts_with(&self.0)) {
            fs::set_permissions(made, fs::Permissions::from_mode(0o755))
                .map_err(|error| cannot("make", made, &error))?;
            folder = made.parent();
        }
        Ok(path)
    }

    fn all(&self) -> Result<Vec<PathBuf>, ChoreError> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for path in entries(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, ChoreError> {
    let mut files = entries(folder)?;
    files.retain(|path| path.is_file());
    if files.is_empty() {
        return Err(cannot("find files in", folder, &"there are none"));
    }
    files.sort();
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ChoreError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|error| cannot("read", folder, &error))
}

fn name(file: &Path) -> String {
    file.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
