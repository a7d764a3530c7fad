//! `tunnel complete`: what the last word of a line could become. It never fails and is never slow, since somebody types.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::{self, ArgValueCompleter, CompletionCandidate};
use daemon::device_dir::DeviceDir;
use daemon::lock::FileLock;
use tokio::time::timeout;

use crate::arguments::{Arguments, Complete};
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{self, account, cannot, device_dir};
use crate::seen_devices::{SeenDevice, SeenDevices};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Complete) -> u8 {
    if arguments.renew {
        // Nobody listens.
        let _ = renew(dir);
    } else {
        let named = named_dir(&arguments.words);
        for candidate in candidates(named.or(dir), arguments.words.clone()) {
            let value = candidate.get_value().to_string_lossy();
            let help = candidate.get_help().map(ToString::to_string);
            let help = help.as_deref().and_then(|help| help.lines().next());
            output::line(format_args!("{value}\t{}", help.unwrap_or_default()));
        }
    }
    exit::OK
}

fn candidates(dir: Option<PathBuf>, words: Vec<OsString>) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1) else {
        return Vec::new();
    };
    let is_option = words
        .last()
        .is_some_and(|word| word.to_string_lossy().starts_with('-'));
    let mut command = with_devices(Arguments::command(), dir);
    let here = std::env::current_dir().ok();
    let found = engine::complete(&mut command, words, last, here.as_deref());
    found
        .unwrap_or_default()
        .into_iter()
        // Options only when they are asked for: among devices they would be in the way.
        .filter(|candidate| is_option || !candidate.get_value().to_string_lossy().starts_with('-'))
        .collect()
}

/// Makes the arguments that are devices know them. The broker is asked for them only when one is to be completed.
fn with_devices(mut command: clap::Command, dir: Option<PathBuf>) -> clap::Command {
    let completer = ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let devices = device_dir(dir.clone()).map(|dir| devices(&dir, dir_words(&dir)));
        devices
            .unwrap_or_default()
            .iter()
            .filter_map(|seen| candidate(&typed, seen))
            .collect::<Vec<_>>()
    });
    for subcommand in command.get_subcommands_mut() {
        if TAKING_DEVICES.contains(&subcommand.get_name()) {
            *subcommand = std::mem::take(subcommand).mut_args(|argument| {
                if DEVICE_ARGUMENTS.contains(&argument.get_id().as_str()) {
                    argument.add(completer.clone())
                } else {
                    argument
                }
            });
        }
    }
    command
}

/// A device as it would be typed: `333`, or behind a dot as much of its name as there is.
fn candidate(typed: &str, seen: &SeenDevice) -> Option<CompletionCandidate> {
    let (user, name) = match typed.rsplit_once('@') {
        Some((user, name)) => (format!("{user}@"), name),
        None => (String::new(), typed),
    };
    let full = seen.device.to_string();
    let offered = if name.contains('.') {
        full.as_str()
    } else {
        seen.device.device().as_str()
    };
    let help = if seen.online { "online" } else { "offline" };
    offered
        .starts_with(name)
        .then(|| CompletionCandidate::new(format!("{user}{offered}")).help(Some(help.into())))
}

/// What is known at once. An old list is renewed for the next time; without any, the first is waited for, but not long.
fn devices(dir: &DeviceDir, words: [OsString; 2]) -> Vec<SeenDevice> {
    let seen = SeenDevices::load(dir);
    if seen.as_ref().is_none_or(SeenDevices::is_old) {
        let patience = seen.is_none().then_some(PATIENCE);
        // Without a new list the old one has to do.
        let _ = start_renewal(words, patience);
    }
    seen.or_else(|| SeenDevices::load(dir))
        .map(|seen| seen.devices().to_vec())
        .unwrap_or_default()
}

/// Starts a process that outlives this one, and gives it some time.
fn start_renewal(words: [OsString; 2], patience: Option<Duration>) -> Result<(), Failure> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| cannot("find this program itself", error))?;
    runtime::block_on(async {
        let mut child = tokio::process::Command::new(program)
            .args(words)
            .args(["complete", "--renew"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the prompt is not for it.
            .process_group(0)
            .spawn()
            .map_err(|error: io::Error| cannot("start", error))?;
        if let Some(patience) = patience {
            // It goes on by itself, for the next time.
            let _ = timeout(patience, child.wait()).await;
        }
        Ok(())
    })
}

/// Asks the broker, unless somebody does already.
fn renew(dir: Option<PathBuf>) -> Result<(), Failure> {
    let place = device_dir(dir.clone())?;
    let Some(_lock) = FileLock::try_take(&place.path().join(".devices.lock"))? else {
        return Ok(());
    };
    let account = account(dir)?;
    let listed = runtime::block_on(async {
        let listed = timeout(RENEWAL, controller::list(&account)).await;
        // Nobody reads why there are none.
        Ok(listed.ok().and_then(Result::ok))
    });
    match listed {
        Ok(Some(listed)) => SeenDevices::keep(&place, &listed),
        Ok(None) | Err(_) => SeenDevices::keep_waiting(&place),
    }
    Ok(())
}

fn dir_words(dir: &DeviceDir) -> [OsString; 2] {
    ["--dir".into(), dir.path().as_os_str().to_owned()]
}

/// The directory that the line names by `--dir`.
fn named_dir(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--dir" {
            return words.next().map(PathBuf::from);
        }
        if let Some(dir) = word.to_str().and_then(|word| word.strip_prefix("--dir=")) {
            return Some(PathBuf::from(dir));
        }
    }
    None
}

/// The commands of which an argument is a device of the controller's system.
const TAKING_DEVICES: &[&str] = &[
    "connect",
    "disconnect",
    "doctor",
    "forward",
    "list",
    "stdio",
];

/// How they call it.
const DEVICE_ARGUMENTS: &[&str] = &["device", "pattern", "target"];

/// How long somebody who types is kept waiting, and only when there has never been a list.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long the renewal may take: nobody waits for it, and nothing of it shall be left.
const RENEWAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_offered_as_it_was_begun() {
        let seen = SeenDevice {
            device: "333.hula.atlas".parse().unwrap(),
            online: true,
        };
        let offered = |typed: &str| {
            candidate(typed, &seen).map(|found| found.get_value().to_string_lossy().into_owned())
        };
        assert_eq!(offered("").as_deref(), Some("333"));
        assert_eq!(offered("atlas@3").as_deref(), Some("atlas@333"));
        assert_eq!(
            offered("atlas@333.h").as_deref(),
            Some("atlas@333.hula.atlas")
        );
        assert_eq!(offered("4"), None);
    }

    #[test]
    fn commands_and_their_options_are_offered() {
        let offered = |words: &[&str]| -> Vec<String> {
            let words = words.iter().map(OsString::from).collect();
            let found = candidates(Some("/nonexistent".into()), words);
            found
                .iter()
                .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(offered(&["tunnel", "conn"]), ["connect"]);
        assert_eq!(offered(&["tunnel", "connect", "--tim"]), ["--timing"]);
        assert!(
            !offered(&["tunnel", ""])
                .iter()
                .any(|word| word == "complete")
        );
        assert!(offered(&[]).is_empty());
    }

    #[test]
    fn the_lines_own_directory_counts() {
        let dir = |words: &[&str]| named_dir(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(dir(&["tunnel", "--dir", "/x", "list"]), Some("/x".into()));
        assert_eq!(dir(&["tunnel", "list", "--dir=/y"]), Some("/y".into()));
        assert_eq!(dir(&["tunnel", "connect", "3", "--", "--dir", "/x"]), None);
    }
}
