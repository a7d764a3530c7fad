//! A service, as people and ssh name it: by its name, or by its port.

use std::num::NonZeroU16;

use controller::Wish;
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

/// Reads `[LOCAL:]SERVICE|PORT`.
pub(crate) fn parse_wish(text: &str) -> Result<Wish, WishError> {
    let (local, service) = match text.split_once(':') {
        Some((local, service)) => {
            let port = local.parse::<NonZeroU16>();
            (Some(port.map_err(|_| WishError::Local)?.get()), service)
        }
        None => (None, text),
    };
    let service = parse(service)?;
    Ok(Wish { local, service })
}

/// Why a text is no wish for a local port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    /// What stands before the colon is no port.
    #[error("the local port is a number from 1 to 65535")]
    Local,
    /// What stands behind it is no service.
    #[error("it is neither a service nor a port")]
    Service(#[from] NameError),
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

    #[test]
    fn a_wish_may_name_the_local_port() {
        let wish = |text: &str| {
            parse_wish(text)
                .map(|wish| (wish.local, wish.service.to_string()))
                .ok()
        };
        assert_eq!(wish("web"), Some((None, "web".to_owned())));
        assert_eq!(wish("8081:web"), Some((Some(8081), "web".to_owned())));
        assert_eq!(wish("2222:22"), Some((Some(2222), "ssh".to_owned())));
        for bad in ["", ":", "0:web", "65536:web", "web:80", "8081:", "1:2:3"] {
            assert_eq!(wish(bad), None, "{bad}");
        }
    }
}
