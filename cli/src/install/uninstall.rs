//! `tunnel agent uninstall`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::systemctl::Systemctl;
use crate::arguments::Uninstall;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::cannot;

/// Takes away what `install` has made, and says so.
pub(crate) fn run(arguments: &Uninstall) -> Result<u8, Failure> {
    let place = Place::of(arguments.root.clone());
    place.check()?;
    if place.is_packaged() {
        return Err(Failure::text(
            "the agent's unit belongs to a package",
            Some(
                "`apt-get remove tunnel` stops it and takes it away, `apt-get purge tunnel` its keys too",
            ),
            exit::FAILURE,
        ));
    }
    let mut files: Vec<PathBuf> = [place.unit(), place.users(), place.program()]
        .into_iter()
        .filter(|path| path.exists())
        .collect();
    let has_unit = place.unit().exists();
    let keys = place.keys();
    if arguments.purge && keys.exists() {
        files.push(keys.clone());
    }
    if arguments.dry_run {
        for file in &files {
            output::line(format_args!("to do: `{}` removed", file.display()));
        }
        return Ok(exit::OK);
    }
    let systemctl = Systemctl::of(&place);
    if has_unit {
        systemctl.disable()?;
        output::note("agent stopped");
    }
    for file in &files {
        remove(file).map_err(|error| cannot(&format!("remove `{}`", file.display()), error))?;
        output::note(format_args!("`{}` removed", file.display()));
    }
    if has_unit {
        systemctl.reload()?;
    }
    if keys.exists() {
        output::note(format_args!(
            "keys and certificate stay in `{}`; `--purge` removes them",
            keys.display()
        ));
    }
    Ok(exit::OK)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::remove_dir_all(path);
    }
    fs::remove_file(path)
}
