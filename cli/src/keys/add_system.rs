//! `tunnel proxy add-system`

use std::fs;
use std::path::Path;

use daemon::files;
use protocol::Label;
use tokio::process::Command;

use crate::arguments::AddSystem;
use crate::exit;
use crate::failure::Failure;
use crate::keys::account::{Account, comment, output_of};
use crate::keys::write::make_key_folder;
use crate::output;
use crate::runtime;

pub(crate) fn run(arguments: &AddSystem) -> Result<u8, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::text(
            "only root may make an account",
            Some("run the command with `sudo`"),
            exit::REFUSED,
        ));
    }
    let system = &arguments.system;
    runtime::block_on(async {
        let (account, said) = match Account::find(system.as_str()).await? {
            Some(account) if account.is_for(system) => (account, "is there already"),
            Some(account) => (adopt(account, arguments).await?, "was taken over"),
            None => (make(system).await?, "made"),
        };
        // No line: those that may be there already are the synchronisation's.
        make_key_folder(&account).await?;
        output::line(format_args!(
            "account `{system}` {said}: user id {}, home `{}`",
            account.uid,
            account.home.display()
        ));
        keep_from_sockets(system)?;
        Ok(exit::OK)
    })
}

/// A key's line says which ports it may open and listen on. Of sockets of the file system no line can speak, and sshd grants them
/// to whoever may forward anything: only its own settings keep them away.
fn keep_from_sockets(system: &Label) -> Result<(), Failure> {
    let setting = format!("Match User {system}\n    AllowStreamLocalForwarding no\n");
    let folder = Path::new(SSHD_SETTINGS);
    if !folder.is_dir() {
        return Err(Failure::text(
            format!(
                "there is no `{SSHD_SETTINGS}` for sshd's settings: its sockets are open to `{system}`"
            ),
            Some(
                "put `AllowStreamLocalForwarding no` for this user into sshd's settings, make that folder, and run the command again",
            ),
            exit::CONFIG,
        ));
    }
    let file = folder.join(format!("tunnel-{system}.conf"));
    let text = format!("# Written by `tunnel proxy add-system`.\n{setting}");
    if fs::read_to_string(&file).is_ok_and(|present| present == text) {
        return Ok(());
    }
    files::write_public(&file, text.as_bytes())?;
    output::line(format_args!(
        "`{}` written; next: make sshd read it, e.g. `systemctl reload ssh`",
        file.display()
    ));
    Ok(())
}

async fn make(system: &Label) -> Result<Account, Failure> {
    let mut useradd = Command::new("useradd");
    useradd
        .args(["--create-home", "--user-group"])
        .args(SETTINGS)
        .args(["--comment", &comment(system)])
        .args(["--", system.as_str()]);
    output_of(useradd, "useradd").await?;
    made(system).await
}

/// Makes an account that somebody else has made, such as the original, one for the system.
async fn adopt(account: Account, arguments: &AddSystem) -> Result<Account, Failure> {
    let system = &arguments.system;
    let refuse = |why: &str, hint: &str| {
        let text = format!("there is an account `{system}`, and {why}");
        Err(Failure::text(text, Some(hint), exit::CONFIG))
    };
    if account.uid < FIRST_ORDINARY {
        return refuse(
            "it belongs to this computer's own software",
            "give the system another name",
        );
    }
    if !arguments.adopt {
        return refuse(
            "it was not made for a system",
            "with `--adopt` it becomes the system's: nobody can log in to it then",
        );
    }
    let mut usermod = Command::new("usermod");
    usermod
        .args(SETTINGS)
        .args(["--comment", &comment(system)])
        .args(["--", system.as_str()]);
    output_of(usermod, "usermod").await?;
    made(system).await
}

async fn made(system: &Label) -> Result<Account, Failure> {
    let account = Account::find(system.as_str()).await?;
    account
        .filter(|account| account.is_for(system))
        .ok_or_else(|| {
            let text = format!("the account `{system}` is not as it was made");
            Failure::text(text, None, exit::FAILURE)
        })
}

/// No password fits `*`, and yet the account is not locked as with `!`, which sshd would refuse. A shell is never started:
/// a stock sshd only looks whether there is one, and forwards.
const SETTINGS: [&str; 4] = ["--password", "*", "--shell", "/usr/sbin/nologin"];

/// Where a stock sshd reads settings of others: its own file includes it on Debian, Ubuntu, Fedora, and SUSE.
const SSHD_SETTINGS: &str = "/etc/ssh/sshd_config.d";

/// The first user id of people (`UID_MIN` of `login.defs`); those below are the operating system's.
const FIRST_ORDINARY: u32 = 1000;
