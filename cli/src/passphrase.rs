//! The passphrase of the authority's key: from a file, from systemd, or from the person at the terminal. Never from an
//! argument, which everybody on the machine can see.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use daemon::files;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signer::{Authority, AuthorityError, Passphrase};
use zeroize::Zeroizing;

use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::cannot;

/// The authority in this directory; its passphrase is looked for when its key is encrypted.
pub(crate) fn authority(directory: &Path) -> Result<Authority, Failure> {
    let failure = |error: AuthorityError| {
        let hint = error.hint();
        Failure::new(error, hint, exit::CONFIG)
    };
    let passphrase = if Authority::is_encrypted(directory).map_err(failure)? {
        match from_file()? {
            Some(passphrase) => Some(passphrase),
            None if io::stdin().is_terminal() => {
                Some(ask("Passphrase of the realm's authority: ")?)
            }
            None => None,
        }
    } else {
        None
    };
    Authority::load_with(directory, passphrase.as_ref()).map_err(failure)
}

/// A passphrase for a new authority.
pub(crate) fn choose() -> Result<Passphrase, Failure> {
    if let Some(passphrase) = from_file()? {
        return Ok(passphrase);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::text(
            "there is no passphrase to encrypt the authority's key with",
            Some(
                "name a file of mode 0600 with it in `TUNNEL_CA_PASSPHRASE_FILE`, or run this at a terminal",
            ),
            exit::CONFIG,
        ));
    }
    ask("New passphrase for the realm's authority, shown to nobody and kept nowhere: ")
}

/// From the file that the environment names, or from systemd's credential `ca-passphrase`.
fn from_file() -> Result<Option<Passphrase>, Failure> {
    let named = std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    let credential = || {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("ca-passphrase");
        path.exists().then_some(path)
    };
    let Some(path) = named.or_else(credential) else {
        return Ok(None);
    };
    let text = Zeroizing::new(files::read_private(&path, MAX_FILE)?);
    let passphrase =
        Passphrase::new(&text).map_err(|error| Failure::new(error, None, exit::CONFIG))?;
    Ok(Some(passphrase))
}

fn ask(question: &str) -> Result<Passphrase, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = {
        // Before the question: whoever types fast is not shown either.
        let _silence = Silence::begin().map_err(|error| cannot("hide what is typed", error))?;
        output::note(question);
        io::stdin().lock().read_line(&mut text)
    };
    read.map_err(|error| cannot("read the passphrase", error))?;
    Passphrase::new(&text).map_err(|error| Failure::new(error, None, exit::CONFIG))
}

/// While it lives the terminal does not show what is typed.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Drain, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

const FILE_VARIABLE: &str = "TUNNEL_CA_PASSPHRASE_FILE";

/// The largest file with a passphrase, in bytes.
const MAX_FILE: usize = 4096;
