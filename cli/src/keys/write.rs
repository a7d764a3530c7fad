//! Writing a user's `authorized_keys` with that user's rights, and no more.
//!
//! The user owns the folder and can put a link anywhere in it at any moment, so root does not even look into it: a child
//! process with the user's ids does all of it, and reads what to write from its standard input.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use enrollment::authorized_file;
use enrollment::authorized_keys::Marker;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::arguments::WriteKeys;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::Account;
use crate::output;
use crate::runtime::cannot;

/// What became of a user's file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// Lines that are new.
    added: usize,
    /// Lines that are gone.
    removed: usize,
    /// Lines for which there is no room.
    left_out: usize,
    /// The numbers of other people's lines with keys of ours.
    shadowing: Vec<usize>,
}

/// Makes these lines, and no other with the marker, stand in the user's `authorized_keys`, and says what has changed. That
/// there is no room for all of them is an error, when those for which there is have been written.
pub(crate) async fn write_keys(
    account: &Account,
    marker: &Marker,
    lines: &[String],
) -> Result<(), Failure> {
    // No more than the file can have: the child reads no more.
    let sent = authorized_file::fitting(lines, authorized_file::MAX_FILE);
    let written = in_child(account, Some(marker), sent).await?;
    tell(account, &written);
    let left_out = lines.len() - sent.len() + written.left_out;
    if left_out == 0 {
        return Ok(());
    }
    Err(Failure::text(
        format!(
            "{left_out} of {} keys of `{}` were left out: with them `authorized_keys` would be larger than {} bytes",
            lines.len(),
            account.name,
            authorized_file::MAX_FILE
        ),
        Some(
            "a controller's line grows with the remote computers of its system: make two systems of it",
        ),
        exit::FAILURE,
    ))
}

/// Makes the folder for the user's `authorized_keys`, with the right owner and mode.
#[cfg(feature = "realm")]
pub(crate) async fn make_key_folder(account: &Account) -> Result<(), Failure> {
    in_child(account, None, &[]).await.map(drop)
}

async fn in_child(
    account: &Account,
    marker: Option<&Marker>,
    lines: &[String],
) -> Result<Written, Failure> {
    let mut command = Command::new(OURSELVES);
    command
        .arg0("tunnel")
        .arg("write-keys")
        .arg(&account.home)
        .args(marker.map(ToString::to_string))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let own = rustix::process::geteuid();
    if own.is_root() {
        // With the user id go all supplementary groups.
        command.uid(account.uid).gid(account.gid);
    } else if own.as_raw() != account.uid {
        return Err(Failure::text(
            format!(
                "only root and `{0}` may write the keys of `{0}`",
                account.name
            ),
            Some("run the command with `sudo`"),
            exit::REFUSED,
        ));
    }
    let work = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.join("\n").as_bytes()).await?;
        }
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::try_join!(read(out), read(err))?;
        Ok((child.wait().await?, stdout, stderr))
    };
    let (status, stdout, stderr) = timeout(LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|error| cannot(&format!("write the keys of `{}`", account.name), error))?;
    let parse = || serde_json::from_slice(&stdout).ok();
    if let Some(written) = status.success().then(parse).flatten() {
        return Ok(written);
    }
    let words = String::from_utf8_lossy(&stderr);
    let words: Vec<&str> = words
        .lines()
        .map(|line| line.strip_prefix("error: ").unwrap_or(line))
        .collect();
    Err(Failure::text(
        format!(
            "the keys of `{}` were not written: {}",
            account.name,
            words.join("; ")
        ),
        None,
        exit::FAILURE,
    ))
}

/// What the child says, and no more than it can have to say: its user may have taken it over.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_ANSWER).read_to_end(&mut said).await?;
    }
    Ok(said)
}

/// The child's side: `tunnel write-keys HOME [MARKER]`.
pub(crate) fn run(arguments: &WriteKeys) -> Result<u8, Failure> {
    let usage = |text: &str| Failure::text(text, None, exit::USAGE);
    let failed = |error| Failure::new(error, None, exit::FAILURE);
    let home: &Path = &arguments.home;
    let Some(marker) = &arguments.marker else {
        authorized_file::make_folder(home).map_err(failed)?;
        return answer(&Written::default());
    };
    let marker = Marker::parse(marker).ok_or_else(|| usage("that is no marker"))?;
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_LINES + 1)
        .read_to_string(&mut text)
        .map_err(|error| cannot("read the keys", error))?;
    if text.len() as u64 > MAX_LINES {
        return Err(usage("that is more than a file of keys may have"));
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // A line without the marker could never be taken back.
    let ours = format!(" {marker}");
    if lines.iter().any(|line| !line.ends_with(&ours)) {
        return Err(usage("a line has no marker"));
    }
    let updated = authorized_file::update(home, &marker, &lines).map_err(failed)?;
    answer(&Written {
        added: updated.merged.added,
        removed: updated.merged.removed,
        left_out: updated.left_out,
        shadowing: updated.merged.shadowing,
    })
}

fn answer(written: &Written) -> Result<u8, Failure> {
    let text =
        serde_json::to_string(written).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    output::line(text);
    std::io::stdout()
        .flush()
        .map_err(|error| cannot("answer", error))?;
    Ok(exit::OK)
}

/// Says what has changed in a user's file, and what is wrong with it.
fn tell(account: &Account, written: &Written) {
    let file = PathBuf::from(&account.home).join(".ssh/authorized_keys");
    if written.added + written.removed > 0 {
        tracing::info!(
            file = %file.display(),
            added = written.added,
            removed = written.removed,
            "keys written"
        );
    }
    for line in &written.shadowing {
        tracing::warn!(
            file = %file.display(),
            line,
            "this line holds a key of the registry without our restrictions and marker: remove it"
        );
    }
}

/// This program, wherever it lies and whoever may reach it there.
const OURSELVES: &str = "/proc/self/exe";

/// How long writing a file may take: a home may be on the network, and its owner may hold the lock.
const LIMIT: Duration = Duration::from_secs(30);

/// The most that a child says, in bytes: an error, or the numbers of a few thousand lines.
const MAX_ANSWER: u64 = 64 * 1024;

/// The most that is read, in bytes: what the file may have.
const MAX_LINES: u64 = authorized_file::MAX_FILE as u64;
