//! Manual pages and completions of the shells, made from the command line's own definition.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
#[cfg(not(feature = "controller"))]
use clap_complete::Shell;

use crate::arguments::Arguments;
#[cfg(feature = "controller")]
use crate::arguments::Shell;
use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// Writes them where a package has them below `/usr/share`.
pub(crate) fn run(folder: &Path) -> Result<u8, Failure> {
    write(folder).map_err(|error| cannot(&format!("write below `{}`", folder.display()), error))?;
    Ok(exit::OK)
}

fn write(folder: &Path) -> io::Result<()> {
    let manual = folder.join("man/man1");
    fs::create_dir_all(&manual)?;
    // One page for a command, and one for each of those below it: `tunnel-proxy-sync.1`.
    clap_mangen::generate_to(Arguments::command(), manual)?;
    for (shell, place) in COMPLETIONS {
        let path = folder.join(place);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, completion(*shell))?;
    }
    Ok(())
}

/// The same as `tunnel completions` prints: it knows devices.
#[cfg(feature = "controller")]
fn completion(shell: Shell) -> Vec<u8> {
    crate::completions::script(shell).into()
}

/// One that knows commands and options; in such a build there is nobody to ask for devices.
#[cfg(not(feature = "controller"))]
fn completion(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tunnel", &mut script);
    script
}

const COMPLETIONS: &[(Shell, &str)] = &[
    (Shell::Bash, "bash-completion/completions/tunnel"),
    (Shell::Zsh, "zsh/vendor-completions/_tunnel"),
    (Shell::Fish, "fish/vendor_completions.d/tunnel.fish"),
];
