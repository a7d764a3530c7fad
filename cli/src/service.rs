//! A service, as people and ssh name it: by its name, or by its port.

use daemon::device_file::SSH_SERVICE;
use protocol::{Label, NameError};

/// Reads a service's name or port. Port 22 is `ssh`, wherever a device's sshd listens; what another port is, the device says.
pub(crate) fn parse(text: &str) -> Result<Label, NameError> {
    if text == SSH_PORT {
        SSH_SERVICE.parse()
    } else {
        text.parse()
    }
}

/// The port that ssh goes to when it is told of none.
const SSH_PORT: &str = "22";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_22_is_ssh() {
        for (text, service) in [
            ("22", "ssh"),
            ("ssh", "ssh"),
            ("2222", "2222"),
            ("web", "web"),
        ] {
            assert_eq!(parse(text).unwrap().as_str(), service);
        }
        assert!(parse("Web").is_err());
    }
}
