//! The users of this computer, as `getent` knows them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

#[cfg(feature = "realm")]
use protocol::Label;
use tokio::process::Command;
use tokio::time::timeout;

use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// A user of this computer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
    comment: String,
}

impl Account {
    /// The user of this name; `None` if there is none.
    pub(crate) async fn find(name: &str) -> Result<Option<Self>, Failure> {
        let mut getent = Command::new("getent");
        getent.args(["passwd", "--", name]);
        let Some(line) = output_of(getent, "getent").await? else {
            return Ok(None);
        };
        // By number, `getent` finds others too.
        Ok(Self::parse(line.trim_end()).filter(|account| account.name == name))
    }

    /// The user who runs this process; `None` if the computer does not know who that is.
    #[cfg(any(
        feature = "builtin-ssh",
        all(feature = "agent", feature = "controller", feature = "realm")
    ))]
    pub(crate) async fn own() -> Result<Option<Self>, Failure> {
        let uid = rustix::process::geteuid().as_raw();
        let mut getent = Command::new("getent");
        getent.args(["passwd", "--", &uid.to_string()]);
        let lines = match output_of(getent, "getent").await {
            Ok(lines) => lines.unwrap_or_default(),
            // Small systems have no such program, and no other list of users either.
            Err(_) => tokio::fs::read_to_string("/etc/passwd")
                .await
                .map_err(|error| cannot("read `/etc/passwd`", error))?,
        };
        let mut accounts = lines.lines().filter_map(Self::parse);
        Ok(accounts.find(|account| account.uid == uid))
    }

    /// One line of `passwd(5)`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let mut next = || fields.next();
        let (name, _password) = (next()?, next()?);
        let (uid, gid) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let (comment, home, shell) = (next()?, next()?, next()?);
        let home = PathBuf::from(home);
        (!name.is_empty() && home.is_absolute()).then(|| Self {
            name: name.to_owned(),
            uid,
            gid,
            home,
            shell: PathBuf::from(shell),
            comment: comment.to_owned(),
        })
    }
}

#[cfg(feature = "realm")]
impl Account {
    /// The systems that have an account of their own on this computer.
    pub(crate) async fn systems() -> Result<Vec<Label>, Failure> {
        let mut getent = Command::new("getent");
        getent.arg("passwd");
        let lines = output_of(getent, "getent").await?.unwrap_or_default();
        Ok(Self::systems_among(&lines))
    }

    fn systems_among(lines: &str) -> Vec<Label> {
        let accounts = lines.lines().filter_map(Self::parse);
        accounts
            .filter_map(|account| {
                let system: Label = account.name.parse().ok()?;
                account.is_for(&system).then_some(system)
            })
            .collect()
    }

    /// Whether it was made for this system, and is no person's or service's.
    pub(crate) fn is_for(&self, system: &Label) -> bool {
        self.uid != 0 && self.name == system.as_str() && self.comment == comment(system)
    }
}

#[cfg(feature = "realm")]
/// What the account of a system says of itself, by which we know it.
pub(crate) fn comment(system: &Label) -> String {
    format!("tunnel system {system}")
}

/// Runs a program to its end and returns what it prints, or nothing when it says that there is nothing (code 2 of `getent`).
pub(crate) async fn output_of(mut command: Command, name: &str) -> Result<Option<String>, Failure> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output())
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|error| cannot(&format!("run `{name}`"), error))?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    if name == "getent" && output.status.code() == Some(2) {
        return Ok(None);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Failure::text(
        format!("`{name}` failed ({}): {}", output.status, words.trim()),
        None,
        exit::FAILURE,
    ))
}

/// How long a look at the users, or a change of them, may take: they may be in a directory on the network.
const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_says_what_it_says_itself() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'useradd: cannot lock /etc/passwd' >&2; exit 1"]);
        let failure = output_of(command, "useradd").await.unwrap_err();
        insta::assert_snapshot!(failure, @"error: `useradd` failed (exit status: 1): useradd: cannot lock /etc/passwd");
        // `getent` knows nobody of that name.
        let mut command = Command::new("sh");
        command.args(["-c", "exit 2"]);
        assert_eq!(output_of(command, "getent").await.unwrap(), None);
    }

    #[test]
    fn only_an_account_that_was_made_for_the_system_is_its_own() {
        let hula: Label = "hula".parse().unwrap();
        let parse = |line| Account::parse(line).unwrap();
        let made = parse("hula:x:1001:1001:tunnel system hula:/home/hula:/usr/sbin/nologin");
        assert!(made.is_for(&hula));
        assert_eq!((made.uid, made.home.to_str()), (1001, Some("/home/hula")));
        for other in [
            "hula:x:1001:1001:Hula Hoop,,,:/home/hula:/bin/bash",
            "hula:x:0:0:tunnel system hula:/root:/bin/bash",
            "root:x:0:0:tunnel system root:/root:/bin/bash",
            "tau:x:1001:1001:tunnel system hula:/home/tau:/usr/sbin/nologin",
        ] {
            assert!(!parse(other).is_for(&hula), "{other}");
        }
        let all = "root:x:0:0:root:/root:/bin/bash\nbroken\n\
                   hula:x:1001:1001:tunnel system hula:/home/hula:/usr/sbin/nologin\n\
                   tau:x:1002:1002:tunnel system hula:/home/tau:/usr/sbin/nologin\n\
                   rho:x:1003:1003:tunnel system rho:/home/rho:/usr/sbin/nologin\n";
        let systems = Account::systems_among(all);
        assert_eq!(systems, [hula, "rho".parse().unwrap()]);
        for bad in [
            "",
            "hula:x:a:1:::",
            "hula:x:1:1:c:relative:/bin/sh",
            "hula:x:1:1",
        ] {
            assert_eq!(Account::parse(bad), None, "{bad}");
        }
    }
}
