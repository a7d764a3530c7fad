//! Why an agent does not begin, word by word.

use std::fmt::Write;

use daemon::report::Report;
use daemon::tls::TlsError;

use crate::AgentError;

#[test]
fn no_agent() {
    let mut page = String::new();
    let id = |text: &str| text.parse().unwrap();
    let no_key = "ssh-ed25519 nothing"
        .parse::<russh::keys::PublicKey>()
        .unwrap_err();
    for (name, error) in [
        (
            "a controller",
            AgentError::Controller {
                id: id("controller-a.hula.atlas"),
            },
        ),
        (
            "too many services",
            AgentError::TooManyServices { count: 17 },
        ),
        (
            "no port",
            AgentError::NoPort {
                id: id("station.hula.atlas"),
            },
        ),
        ("no authority", TlsError::UnusableAuthority.into()),
        ("no ssh of its own", AgentError::NoBuiltin),
        ("no proxy", AgentError::NoProxy),
        ("no host key", AgentError::ProxyHostKey(no_key)),
    ] {
        let report = Report::new(&error, error.hint());
        writeln!(page, "# {name}\n{report}\n").unwrap();
    }
    insta::assert_snapshot!("no-agent", page);
}
