//! The options of ssh that `tunnel connect` passes on.

use std::ffi::OsString;

use clap::Args;

/// What ssh gets as it is. Options that would take ssh elsewhere, or send it into the background, are not among them.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of ssh")]
#[command(next_help_heading = "Options of ssh, passed on as they are")]
pub(crate) struct SshOptions {
    /// Lead a local port to an address that the device reaches
    #[arg(short = 'L', value_name = "[BIND:]PORT:HOST:PORT")]
    local: Vec<OsString>,
    /// Lead a port of the device to an address that this computer reaches
    #[arg(short = 'R', value_name = "[BIND:]PORT[:HOST:PORT]")]
    remote: Vec<OsString>,
    /// Be a SOCKS proxy whose connections begin at the device
    #[arg(short = 'D', value_name = "[BIND:]PORT")]
    dynamic: Vec<OsString>,
    /// Any setting of `ssh_config(5)`; those that make the tunnel are ours
    #[arg(short = 'o', value_name = "NAME=VALUE")]
    settings: Vec<OsString>,
    /// One more key to log in with
    #[arg(short = 'i', value_name = "FILE")]
    keys: Vec<OsString>,
    /// A configuration file in place of ~/.ssh/config
    #[arg(short = 'F', value_name = "FILE")]
    config: Option<OsString>,
    /// The ciphers, by preference
    #[arg(short = 'c', value_name = "CIPHERS")]
    ciphers: Option<OsString>,
    /// The escape character; `none` for no one
    #[arg(short = 'e', value_name = "CHARACTER")]
    escape: Option<OsString>,
    /// The algorithms for integrity, by preference
    #[arg(short = 'm', value_name = "MACS")]
    macs: Option<OsString>,
    /// The user there, if none stands before the device
    #[arg(short = 'l', value_name = "USER")]
    user: Option<OsString>,
    /// A PKCS#11 library with keys
    #[arg(short = 'I', value_name = "FILE")]
    library: Option<OsString>,
    /// Network devices to lead to each other
    #[arg(short = 'w', value_name = "LOCAL[:REMOTE]")]
    devices: Option<OsString>,
    /// Where ssh logs to
    #[arg(short = 'E', value_name = "FILE")]
    log: Option<OsString>,
    /// Run nothing there: for forwarding alone
    #[arg(short = 'N')]
    nothing: bool,
    /// Have a terminal for a command too; twice even without one here
    #[arg(short = 't', action = clap::ArgAction::Count)]
    terminal: u8,
    /// Have no terminal
    #[arg(short = 'T')]
    no_terminal: bool,
    /// Let the device use the keys of the ssh-agent here
    #[arg(short = 'A')]
    agent: bool,
    /// Keep it from using them, whatever the configuration says
    #[arg(short = 'a')]
    no_agent: bool,
    /// Let others than this computer use the local ports
    #[arg(short = 'g')]
    gateway: bool,
    /// Compress
    #[arg(short = 'C')]
    compress: bool,
    /// Let programs there open windows here
    #[arg(short = 'X')]
    windows: bool,
    /// Let programs there open windows here, and trust them
    #[arg(short = 'Y')]
    trusted_windows: bool,
    /// Open no windows here, whatever the configuration says
    #[arg(short = 'x')]
    no_windows: bool,
    /// Read nothing from standard input
    #[arg(short = 'n')]
    no_input: bool,
    /// Let ssh be quiet
    #[arg(short = 'q', action = clap::ArgAction::Count)]
    quiet: u8,
    /// The command is the name of a subsystem
    #[arg(short = 's')]
    subsystem: bool,
}

impl SshOptions {
    /// Whether they name a command.
    pub(super) fn has_command(&self) -> bool {
        self.settings.iter().any(|setting| {
            // ssh takes blanks and quotation marks before a name too.
            let text = setting.to_string_lossy();
            let text = text.trim_start_matches([' ', '\t', '"']);
            let name = text.get(..REMOTE_COMMAND.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(REMOTE_COMMAND))
        })
    }

    /// As ssh takes them.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let lists = [
            ("-L", &self.local),
            ("-R", &self.remote),
            ("-D", &self.dynamic),
            ("-o", &self.settings),
            ("-i", &self.keys),
        ];
        let single = [
            ("-F", &self.config),
            ("-c", &self.ciphers),
            ("-e", &self.escape),
            ("-m", &self.macs),
            ("-l", &self.user),
            ("-I", &self.library),
            ("-w", &self.devices),
            ("-E", &self.log),
        ];
        let flags = [
            ("-N", u8::from(self.nothing)),
            ("-t", self.terminal),
            ("-T", u8::from(self.no_terminal)),
            ("-A", u8::from(self.agent)),
            ("-a", u8::from(self.no_agent)),
            ("-g", u8::from(self.gateway)),
            ("-C", u8::from(self.compress)),
            ("-X", u8::from(self.windows)),
            ("-Y", u8::from(self.trusted_windows)),
            ("-x", u8::from(self.no_windows)),
            ("-n", u8::from(self.no_input)),
            ("-q", self.quiet),
            ("-s", u8::from(self.subsystem)),
        ];
        let mut words: Vec<OsString> = Vec::new();
        for (name, values) in lists {
            for value in values {
                words.extend([name.into(), value.clone()]);
            }
        }
        for (name, value) in single {
            words.extend(value.iter().flat_map(|value| [name.into(), value.clone()]));
        }
        for (name, count) in flags {
            words.extend((0..count).map(|_| OsString::from(name)));
        }
        words
    }
}

/// The setting that is a command.
const REMOTE_COMMAND: &str = "RemoteCommand";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ssh: SshOptions,
    }

    #[test]
    fn a_command_may_be_a_setting() {
        let names_one = |line: &str| {
            let parsed = Line::try_parse_from(line.split('|'));
            let parsed = parsed.unwrap_or_else(|error| panic!("{error}"));
            parsed.ssh.has_command()
        };
        assert!(names_one("x|-o|Compression=yes|-oremotecommand=reboot"));
        assert!(names_one("x|-o|RemoteCommand reboot"));
        assert!(!names_one("x|-o|RequestTTY=no"));
    }

    #[test]
    fn options_are_passed_on_as_they_are() {
        let line = "x -L 1:a:2 -NL3:b:4 -D 1080 -o Compression=yes -tt -e none";
        let parsed = Line::try_parse_from(line.split(' '));
        let words: Vec<_> = parsed
            .unwrap_or_else(|error| panic!("{error}"))
            .ssh
            .words()
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        assert_eq!(
            words.join(" "),
            "-L 1:a:2 -L 3:b:4 -D 1080 -o Compression=yes -e none -N -t -t"
        );
    }
}
