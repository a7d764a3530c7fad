//! What a session's process finds in its environment. Pure.

use std::ffi::OsString;

use crate::limits::{VARIABLE, VARIABLES};
use crate::user::User;

/// The variables that a client has set, of those that it may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Takes a variable, if it is one of the locale and there is room. Returns whether it was taken.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> bool {
        let is_locale = name == "LANG"
            || name.strip_prefix("LC_").is_some_and(|rest| {
                !rest.is_empty()
                    && rest
                        .bytes()
                        .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            });
        let fits = name.len() + value.len() <= VARIABLE && !value.contains('\0');
        if !is_locale || !fits {
            return false;
        }
        self.0.retain(|(present, _)| present != name);
        if self.0.len() >= VARIABLES {
            return false;
        }
        self.0.push((name.to_owned(), value.to_owned()));
        true
    }
}

/// The whole environment: nothing of the agent's own is in it but the time zone.
pub(crate) fn environment(
    user: &User,
    who: &str,
    client: Variables,
    terminal: Option<(&str, &str)>,
    time_zone: Option<OsString>,
) -> Vec<(String, OsString)> {
    let path = if user.uid == 0 { ROOT_PATH } else { USER_PATH };
    let mut all: Vec<(String, OsString)> = vec![
        ("HOME".to_owned(), user.home.clone().into()),
        ("USER".to_owned(), user.name.clone().into()),
        ("LOGNAME".to_owned(), user.name.clone().into()),
        ("SHELL".to_owned(), user.program().into()),
        ("PATH".to_owned(), path.into()),
        // As sshd writes them when a connection has no address; scripts ask whether they are there.
        ("SSH_CLIENT".to_owned(), "UNKNOWN 65535 65535".into()),
        (
            "SSH_CONNECTION".to_owned(),
            "UNKNOWN 65535 UNKNOWN 65535".into(),
        ),
        ("TUNNEL_CONTROLLER".to_owned(), who.into()),
    ];
    if let Some((name, device)) = terminal {
        all.push(("TERM".to_owned(), name.into()));
        all.push(("SSH_TTY".to_owned(), device.into()));
    }
    all.extend(time_zone.map(|zone| ("TZ".to_owned(), zone)));
    let client = client.0.into_iter();
    all.extend(client.map(|(name, value)| (name, value.into())));
    all
}

/// What login(1) gives to root, and to others with the programs that field computers are looked after with.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "atlas".to_owned(),
            uid: 1000,
            home: "/home/atlas".into(),
            shell: String::new().into(),
        }
    }

    #[test]
    fn a_client_sets_the_locale_and_nothing_else() {
        let mut variables = Variables::default();
        for (name, taken) in [
            ("LANG", true),
            ("LC_ALL", true),
            ("LC_TELEPHONE", true),
            ("LC_", false),
            ("LC_a", false),
            ("LC_A=B", false),
            ("LD_PRELOAD", false),
            ("PATH", false),
            ("BASH_ENV", false),
            ("", false),
        ] {
            assert_eq!(variables.set(name, "C"), taken, "{name}");
        }
        assert!(!variables.set("LANG", &"x".repeat(VARIABLE)));
        assert!(!variables.set("LANG", "a\0b"));
        assert!(variables.set("LANG", "de_DE.UTF-8"));
        assert_eq!(variables.0.len(), 3, "the last value of a name counts");
        let more = (0..100_u8).filter(|number| {
            let name = format!("LC_{}", char::from(b'A' + number % 26)).repeat(1)
                + &"X".repeat(usize::from(number / 26));
            variables.set(&name, "C")
        });
        assert_eq!(more.count() + 3, VARIABLES);
    }

    #[test]
    fn the_environment_is_the_users_and_not_the_agents() {
        let mut variables = Variables::default();
        variables.set("LANG", "C");
        let terminal = Some(("xterm", "/dev/pts/7"));
        let all = environment(
            &user(),
            "controller-x.hula.atlas",
            variables,
            terminal,
            None,
        );
        let value = |wanted: &str| {
            let found = all.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(value("HOME"), Some("/home/atlas"));
        assert_eq!(value("SHELL"), Some("/bin/sh"));
        assert_eq!(value("SSH_TTY"), Some("/dev/pts/7"));
        assert_eq!(value("TUNNEL_CONTROLLER"), Some("controller-x.hula.atlas"));
        assert_eq!(value("LANG"), Some("C"));
        assert_eq!(value("CARGO_PKG_NAME"), None);
        let bare = environment(&user(), "x", Variables::default(), None, None);
        assert!(bare.iter().all(|(name, _)| name != "TERM" && name != "TZ"));
    }
}
