//! What is said about an entry, in files beside it: why it is refused, and that it has been taken up.

use std::io;

use serde::{Deserialize, Serialize};

use crate::folder::Folder;
use crate::{Refusal, Revision};

/// A refusal that cannot be read is none: the signer then writes it again.
pub(super) fn refusal(
    folder: &Folder,
    title: &str,
    revision: &Revision,
) -> io::Result<Option<Refusal>> {
    let found = folder.read(&refusal_name(title), MAX_REFUSAL)?;
    Ok(found
        .and_then(|found| toml::from_str::<RefusalFile>(&found.body.ok()?).ok())
        .filter(|file| file.revision == revision.as_str())
        .map(|file| Refusal::new(&file.reason, &file.remedy)))
}

/// Says why this revision is refused.
pub(super) fn refuse(
    folder: &Folder,
    title: &str,
    revision: &Revision,
    refusal: &Refusal,
) -> io::Result<()> {
    let file = RefusalFile {
        revision: revision.as_str().to_owned(),
        reason: refusal.reason().to_owned(),
        remedy: refusal.remedy().to_owned(),
    };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    folder.write(&refusal_name(title), text.as_bytes())
}

/// Whether a title's `.seen` speaks of this revision.
pub(super) fn is_seen(folder: &Folder, title: &str, revision: &Revision) -> io::Result<bool> {
    let found = folder.read(&seen_name(title), MAX_SEEN)?;
    let text = found.and_then(|found| found.body.ok());
    Ok(text.is_some_and(|text| text.trim_end() == revision.as_str()))
}

/// Says that this revision has been taken up.
pub(super) fn mark_seen(folder: &Folder, title: &str, revision: &Revision) -> io::Result<()> {
    folder.write(&seen_name(title), format!("{revision}\n").as_bytes())
}

/// Takes back all that was said under this title.
pub(super) fn take_back(folder: &Folder, title: &str) -> io::Result<()> {
    folder.remove(&refusal_name(title))?;
    folder.remove(&seen_name(title))
}

/// Takes back what was said about this revision, and not about another.
pub(super) fn take_back_of(folder: &Folder, title: &str, revision: &Revision) -> io::Result<()> {
    if is_seen(folder, title, revision)? {
        folder.remove(&seen_name(title))?;
    }
    match refusal(folder, title, revision)? {
        Some(_) => folder.remove(&refusal_name(title)),
        None => Ok(()),
    }
}

/// `TITLE.refused`: TOML, so that a person can read it with `cat`.
#[derive(Serialize, Deserialize)]
struct RefusalFile {
    revision: String,
    reason: String,
    remedy: String,
}

/// A name that was not made by us may be so long that there is no room behind it.
fn refusal_name(title: &str) -> String {
    const ENDING: &str = ".refused";
    if title.len() + ENDING.len() > MAX_FILE_NAME {
        return format!("{}{ENDING}", Revision::of_body(title));
    }
    format!("{title}{ENDING}")
}

fn seen_name(title: &str) -> String {
    format!("{title}.seen")
}

/// The largest `.refused` file, in bytes: two texts of [`crate::registry::MAX_TEXT`] characters of four bytes, and the
/// names.
const MAX_REFUSAL: usize = 8 * 1024;

/// The largest `.seen` file, in bytes: a revision has 64 characters, or four numbers.
const MAX_SEEN: usize = 256;

/// The longest name of a file, in bytes (`NAME_MAX` of `limits.h`).
const MAX_FILE_NAME: usize = 255;
