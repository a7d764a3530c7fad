//! `cargo xtask dist`: what is installed, a Debian package and programs that need nothing else.

mod build;
mod package;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use build::Kind;
use package::Package;

use crate::arguments::Arguments;
use crate::step::ChoreError;

pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let program = arguments.path("--program")?;
    let out = arguments
        .path("--out")?
        .unwrap_or_else(|| workspace().join("target/dist-packages"));
    let version = arguments
        .text("--version")?
        .unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    let fast = arguments.flag("--fast");
    arguments.none_left()?;
    fs::create_dir_all(&out).map_err(|error| cannot("make", &out, &error))?;
    let mut made = Vec::new();
    let program = if let Some(program) = program {
        program
    } else {
        made.push(Kind::Alone.build(&out)?);
        made.push(Kind::Agent.build(&out)?);
        Kind::Packaged.build(&out)?
    };
    let package = Package {
        program,
        version,
        fast,
    };
    made.push(package.assemble(&out)?);
    for file in made {
        let size = fs::metadata(&file)
            .map_err(|error| cannot("look at", &file, &error))?
            .len();
        println!("{size:>10}  {}", file.display());
    }
    Ok(())
}

/// The root of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> ChoreError {
    ChoreError::Failed(format!("cannot {what} `{}`: {error}", path.display()))
}
