//! The steps of an installation: each can say whether it is done already.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use daemon::files;

use super::place::{AGENT, Place};
use super::systemctl::succeed;
use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// Something that has to be so.
#[derive(Debug)]
pub(super) enum Step {
    /// The program is at its place.
    Program { from: PathBuf, to: PathBuf },
    /// A file has this text.
    Text { to: PathBuf, text: String },
    /// The agent has a user.
    Users { place: Place },
    /// The agent has its directory.
    Keys { place: Place },
}

impl Step {
    pub(super) fn is_done(&self) -> Result<bool, Failure> {
        match self {
            Self::Program { from, to } => same(from, to)
                .map_err(|error| cannot(&format!("compare with `{}`", to.display()), error)),
            Self::Text { to, text } => Ok(fs::read(to).is_ok_and(|found| found == text.as_bytes())),
            Self::Users { place } => Ok(place.agent()?.is_some()),
            // Another user's stays that user's: an agent with logins of its own runs as one.
            Self::Keys { place } => {
                Ok(fs::symlink_metadata(place.keys()).is_ok_and(|found| found.uid() != 0))
            }
        }
    }

    pub(super) fn perform(&self) -> Result<(), Failure> {
        match self {
            Self::Program { from, to } => copy_program(from, to)
                .map_err(|error| cannot(&format!("install `{}`", to.display()), error)),
            Self::Text { to, text } => Ok(files::write_public(to, text.as_bytes())?),
            Self::Users { place } => {
                let mut sysusers = Command::new("systemd-sysusers");
                if let Some(root) = place.root() {
                    let mut option = std::ffi::OsString::from("--root=");
                    option.push(root);
                    sysusers.arg(option);
                }
                succeed(sysusers.arg("tunnel-agent.conf"), None).map(drop)
            }
            Self::Keys { place } => make_keys(place),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { to, .. } => write!(f, "program at `{}`", to.display()),
            Self::Text { to, .. } => write!(f, "`{}` written", to.display()),
            Self::Users { .. } => write!(f, "user `{AGENT}`"),
            Self::Keys { place } => write!(f, "directory `{}`", place.keys().display()),
        }
    }
}

/// Whether two files have the same content; one that is missing has none.
fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let mut b = match File::open(b) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut a = File::open(a)?;
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut of_a, mut of_b) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let read = a.read(&mut of_a)?;
        let (Some(left), Some(right)) = (of_a.get(..read), of_b.get_mut(..read)) else {
            return Ok(false);
        };
        if left.is_empty() {
            return Ok(true);
        }
        b.read_exact(right)?;
        if left != right {
            return Ok(false);
        }
    }
}

/// The program that runs cannot be written to, but its name can be given to another.
fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".tunnel.{}.tmp", std::process::id()));
    let copied = copy_to(from, &temporary).and_then(|()| fs::rename(&temporary, to));
    if copied.is_err() {
        // The failure itself is what matters; the leftover would only add to it.
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn copy_to(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.flush()?;
    // Others run it, whatever the umask of whoever installs.
    let mut permissions = file.metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    file.set_permissions(permissions)?;
    file.sync_all()
}

/// The directory for keys belongs to the agent: what root writes into it later becomes the agent's. One that root has
/// enrolled in before is handed over.
fn make_keys(place: &Place) -> Result<(), Failure> {
    let Some(agent) = place.agent()? else {
        return Err(Failure::text(
            format!("there is no user `{AGENT}` after it was made"),
            Some("`systemd-sysusers` makes it in `/etc/passwd`: is that file writable?"),
            exit::FAILURE,
        ));
    };
    let path = place.keys();
    make_private(&path)
        .and_then(|()| hand_over(&path, agent))
        .map_err(|error| cannot(&format!("make `{}`", path.display()), error))
}

fn make_private(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new().mode(0o700).create(path)
}

/// From within outwards: as long as the agent owns no directory, it cannot put a link where a file was.
fn hand_over(path: &Path, agent: (u32, u32)) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            hand_over(&entry?.path(), agent)?;
        }
    }
    if found.uid() == 0 {
        lchown(path, Some(agent.0), Some(agent.1))?;
    }
    Ok(())
}

/// How much of two programs is compared at a time, in bytes.
const BLOCK: usize = 64 * 1024;
