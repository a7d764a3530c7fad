//! What `~/.ssh/config` needs, so that `ssh`, `scp`, `rsync`, `git` and editors find a system's devices by their names.

use std::path::PathBuf;

use protocol::DeviceId;

use crate::ssh_words::{UnwritablePath, option_word, shell_word, writable};

/// The settings for the devices of one system, as one controller reaches them.
#[derive(Clone, Debug)]
pub struct SshConfig {
    /// This program, by its absolute path: who runs ssh may have another `PATH`.
    pub program: PathBuf,
    /// The controller's directory.
    pub dir: PathBuf,
    /// The controller.
    pub id: DeviceId,
    /// The key that it logs in with.
    pub key: PathBuf,
    /// Its file of host keys.
    pub known_hosts: PathBuf,
    /// Whether `333.hula` is a name too, beside `333.hula.atlas`. It is somebody else's where `hula` is a domain.
    pub short: bool,
}

impl SshConfig {
    /// The block for ssh's configuration.
    pub fn block(&self) -> Result<String, UnwritablePath> {
        let (system, realm) = (self.id.system(), self.id.realm());
        let program = shell_word(writable(&self.program)?);
        let dir = shell_word(writable(&self.dir)?);
        let key = option_word(writable(&self.key)?);
        let known_hosts = option_word(writable(&self.known_hosts)?);
        let (short, hosts) = if self.short {
            (
                format!("Host *.{system}\n    HostName %h.{realm}\n"),
                format!("*.{system}.{realm} *.{system}"),
            )
        } else {
            (String::new(), format!("*.{system}.{realm}"))
        };
        // The quotes around `%h` and the two dashes before it are for an ssh which takes any text for the name of a host:
        // names come from other people's repositories too. What is known of a host stands under its full name.
        Ok(format!(
            "{short}Host {hosts}\n    \
             ProxyCommand {program} --dir {dir} stdio -- '%h' '%p'\n    \
             UserKnownHostsFile {known_hosts}\n    \
             HashKnownHosts no\n    \
             StrictHostKeyChecking ask\n    \
             IdentityFile {key}\n    \
             IdentitiesOnly yes\n"
        ))
    }

    /// The name under which it is installed: one a system and realm.
    pub fn name(&self) -> String {
        format!("{}.{}", self.id.system(), self.id.realm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_whole_paths_and_never_turns_checking_off() {
        let config = SshConfig {
            program: "/opt/it's 100%/tunnel".into(),
            dir: "/home/a b".into(),
            id: "controller-a.hula.atlas".parse().unwrap(),
            key: "/home/a b/x \"y\".sshkey".into(),
            known_hosts: "/home/a b/known_hosts".into(),
            short: true,
        };
        let block = config.block().unwrap();
        assert_eq!(
            block,
            r#"Host *.hula
    HostName %h.atlas
Host *.hula.atlas *.hula
    ProxyCommand '/opt/it'\''s 100%%/tunnel' --dir '/home/a b' stdio -- '%h' '%p'
    UserKnownHostsFile "/home/a b/known_hosts"
    HashKnownHosts no
    StrictHostKeyChecking ask
    IdentityFile "/home/a b/x \"y\".sshkey"
    IdentitiesOnly yes
"#
        );
        let config = SshConfig {
            dir: "/a\nHost *".into(),
            ..config
        };
        assert!(config.block().is_err());
    }
}
