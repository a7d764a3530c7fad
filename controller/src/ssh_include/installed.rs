//! What is installed beside somebody's `~/.ssh/config`, for whoever takes it away when the controller's directory is gone.

use std::io;
use std::path::Path;

use daemon::files;

use super::{FOLDER, MAX_CONFIG, SshInclude, SshIncludeError, own};
use crate::ssh_words::shell_word;

/// A system's settings, as they are installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The name that they were installed under.
    pub name: String,
    text: String,
}

impl SshInclude {
    /// All that is installed, by name. What cannot be read is not ours, or cannot be told apart from what is not.
    pub fn installed(&self) -> Result<Vec<Installed>, SshIncludeError> {
        let folder = self.ssh.join(FOLDER);
        let fail = |source| SshIncludeError::Change {
            path: folder.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(fail(source)),
        };
        own(&folder, |kind| kind.is_dir(), "directory")?;
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".conf")) else {
                continue;
            };
            let file = self.file(name);
            // A pipe would be waited for.
            let is_file = file.metadata().is_ok_and(|data| data.is_file());
            let text = is_file.then(|| files::read_bounded(&file, MAX_CONFIG).ok());
            let Some(text) = text.flatten() else {
                tracing::debug!(file = %file.display(), "not one of ours");
                continue;
            };
            found.push(Installed {
                name: name.to_owned(),
                text: String::from_utf8_lossy(&text).into_owned(),
            });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}

impl Installed {
    /// Whether ssh reaches the devices by what is, or was, in this directory: it stands in the settings as a word.
    pub fn leads_through(&self, dir: &Path) -> bool {
        // With or without a slash at its end, as it was typed then and now.
        let dir: std::path::PathBuf = dir.components().collect();
        let dir = dir.to_string_lossy();
        ["", "/"].iter().any(|slash| {
            let word = shell_word(&format!("{dir}{slash}"));
            self.text.contains(&format!(" --dir {word} stdio -- "))
        })
    }
}
