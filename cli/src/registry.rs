//! `tunnel registry login|list|show|delete`

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;

use daemon::device_dir::DeviceDir;
use daemon::realm_file::{RealmFile, RegistryPlace};
use daemon::report::is_invisible;
use enrollment::github::{TOKEN_FILE, Token};
use enrollment::{AnyRegistry, GitHub, Kind, Registry, Title};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::arguments::{RegistryCommand, RegistryDelete, RegistryList, RegistryShow};
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{self, cannot, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, command: &RegistryCommand) -> Result<u8, Failure> {
    // Devices and realms have their files under the same names.
    let dir = device_dir(dir)?;
    let place = RealmFile::load(&dir.realm_file())?.registry;
    match command {
        RegistryCommand::Login => login(&dir, place),
        RegistryCommand::List(arguments) => list(&dir, &place, arguments),
        RegistryCommand::Show(arguments) => show(&dir, &place, arguments),
        RegistryCommand::Delete(arguments) => delete(&dir, &place, arguments),
    }
}

/// Keeps a token if GitHub knows it. It is never an argument: those can be seen by every user of the machine.
fn login(dir: &DeviceDir, place: RegistryPlace) -> Result<u8, Failure> {
    let RegistryPlace::GitHub(place) = place else {
        return Err(Failure::text(
            "the registry of this realm is a directory",
            Some("nothing is needed to use it but permission to write there"),
            exit::USAGE,
        ));
    };
    let token = Token::parse(&typed_token()?, "standard input")?;
    let github = GitHub::new(place, dir.path()).with_token(token.clone());
    let login = runtime::block_on(async { Ok(github.login().await?) })?;
    token.save(dir.path(), github.host())?;
    let path = dir.path().join(TOKEN_FILE);
    output::note(format_args!(
        "GitHub login {login}; the token is kept in `{}`",
        path.display()
    ));
    Ok(exit::OK)
}

/// As the original: `NUMBER TITLE LOGIN STATE`, newest first.
fn list(dir: &DeviceDir, place: &RegistryPlace, arguments: &RegistryList) -> Result<u8, Failure> {
    let suffix = arguments.suffix.as_deref().unwrap_or_default();
    let registry = AnyRegistry::open(place, dir.path())?;
    let mut entries = runtime::block_on(async {
        Ok(match &registry {
            AnyRegistry::GitHub(github) => github
                .all()
                .await?
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Failure::new(error, None, exit::FAILURE))?,
            AnyRegistry::Directory(directory) => {
                let mut entries = Vec::new();
                for kind in Kind::ALL {
                    entries.extend(directory.list(kind).await?.into_iter().map(|entry| {
                        serde_json::json!({
                            "title": entry.title.to_string(),
                            "login": entry.author.to_string(),
                            "state": "OPEN",
                        })
                    }));
                }
                entries
            }
        })
    })?;
    entries.retain(|entry| text(entry, "title").ends_with(suffix));
    if arguments.json {
        let text = serde_json::to_string_pretty(&entries)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        output::line(text);
        return Ok(exit::OK);
    }
    for entry in entries {
        let number = entry
            .get("number")
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let (title, login) = (text(&entry, "title"), text(&entry, "login"));
        output::line(format_args!(
            "{number} {title} {login} {}",
            text(&entry, "state")
        ));
    }
    Ok(exit::OK)
}

fn show(dir: &DeviceDir, place: &RegistryPlace, arguments: &RegistryShow) -> Result<u8, Failure> {
    let title = title(&arguments.title)?;
    let registry = AnyRegistry::open(place, dir.path())?;
    let entry = runtime::block_on(async { Ok(registry.get(&title).await?) })?;
    let Some(entry) = entry else {
        return Err(missing(&arguments.title));
    };
    output::note(format_args!("{title} of {}", entry.author));
    let body = entry
        .body
        .map_err(|fault| Failure::new(fault, None, exit::DATA))?;
    output::line(shown(body.trim_end()));
    Ok(exit::OK)
}

fn delete(
    dir: &DeviceDir,
    place: &RegistryPlace,
    arguments: &RegistryDelete,
) -> Result<u8, Failure> {
    match AnyRegistry::open(place, dir.path())? {
        AnyRegistry::GitHub(github) => {
            let number = arguments.entry.parse().map_err(|error| {
                let hint = "`tunnel registry list` shows the numbers".to_owned();
                Failure::new(NotANumber { source: error }, Some(hint), exit::USAGE)
            })?;
            let closed = runtime::block_on(async { Ok(github.withdraw(number).await?) })?;
            let closed = closed.ok_or_else(|| missing(&arguments.entry))?;
            output::note(format_args!("issue {number} closed: {}", closed.title));
        }
        AnyRegistry::Directory(directory) => {
            let title = title(&arguments.entry)?;
            let removed = runtime::block_on(async {
                let entry = directory.get(&title).await?;
                if let Some(entry) = &entry {
                    directory.close(&title, &entry.revision).await?;
                }
                Ok(entry.is_some())
            })?;
            if !removed {
                return Err(missing(&arguments.entry));
            }
            output::note(format_args!("{title} removed"));
        }
    }
    Ok(exit::OK)
}

fn title(text: &str) -> Result<Title, Failure> {
    text.parse()
        .map_err(|error: enrollment::TitleError| Failure::new(error, None, exit::USAGE))
}

fn missing(entry: &str) -> Failure {
    Failure::text(
        format!("there is no open entry `{}`", entry.escape_default()),
        Some("`tunnel registry list` shows which there are"),
        exit::FAILURE,
    )
}

/// A text that anybody may have written, as a terminal may get it: lines, and in them nothing that moves, hides or turns
/// around what is read.
fn shown(body: &str) -> String {
    let mut shown = String::with_capacity(body.len());
    for c in body.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            // Before the end of a line it is a line end of another kind.
            '\r' => {}
            c if c.is_control() || is_invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

fn text<'a>(entry: &'a serde_json::Value, field: &str) -> &'a str {
    entry
        .get(field)
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default()
}

/// Reads a line; from a terminal without showing it.
fn typed_token() -> Result<String, Failure> {
    let failed = |error| cannot("read the token", error);
    let stdin = io::stdin();
    let hidden = stdin.is_terminal().then(Hidden::begin).transpose();
    let hidden = hidden.map_err(failed)?;
    let mut line = String::new();
    let read = stdin.lock().take(MAX_LINE).read_line(&mut line);
    drop(hidden);
    read.map_err(failed)?;
    Ok(line)
}

/// The terminal does not show what is typed as long as this lives.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        output::note("token (it is not shown):");
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is nobody to tell, and the shell sets its terminal anyway.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an issue is named by its number")]
struct NotANumber {
    source: std::num::ParseIntError,
}

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_does_not_reach_the_terminal_as_it_is() {
        let body =
            "ssh-ed25519 AAAA é\r\nnext\tline \u{1b}]0;owned\u{7}\u{1b}[31m \u{9b}2J \u{202e}txt";
        assert_eq!(
            shown(body),
            "ssh-ed25519 AAAA é\nnext\tline \\u{1b}]0;owned\\u{7}\\u{1b}[31m \\u{9b}2J \\u{202e}txt"
        );
    }
}
