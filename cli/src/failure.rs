//! Why a command failed: the error, what to do about it, and the exit code.

use std::error::Error;
use std::fmt;

use daemon::report::Report;
#[cfg(feature = "controller")]
use daemon::report::one_line;

use crate::exit;

/// A command's error on its way to the person.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// An error with what to do about it.
    pub(crate) fn new(
        error: impl Error + Send + Sync + 'static,
        hint: Option<String>,
        code: u8,
    ) -> Self {
        Self {
            error: Box::new(error),
            hint,
            code,
        }
    }

    /// An error that is only a sentence.
    pub(crate) fn text(text: impl Into<String>, hint: Option<&str>, code: u8) -> Self {
        Self {
            error: text.into().into(),
            hint: hint.map(str::to_owned),
            code,
        }
    }

    /// What went wrong, with its causes, on one line.
    #[cfg(feature = "controller")]
    pub(crate) fn cause(&self) -> String {
        one_line(&*self.error)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// The error itself.
    #[cfg(any(feature = "builtin-ssh", feature = "controller"))]
    pub(crate) fn error(&self) -> &(dyn Error + 'static) {
        &*self.error
    }

    /// What to do about it.
    #[cfg(feature = "builtin-ssh")]
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Report::new(&*self.error, self.hint.as_deref()).fmt(f)
    }
}

impl From<daemon::device_dir::MembershipError> for Failure {
    fn from(error: daemon::device_dir::MembershipError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

impl From<daemon::realm_file::RealmFileError> for Failure {
    fn from(error: daemon::realm_file::RealmFileError) -> Self {
        let missing =
            matches!(&error, daemon::realm_file::RealmFileError::File(file) if file.is_not_found());
        let hint = if matches!(&error, daemon::realm_file::RealmFileError::NoProxy { .. }) {
            Some(
                "`host_keys` of `[[proxy]]` holds the line of the proxy's `proxy/hostkey.pub`"
                    .to_owned(),
            )
        } else if missing {
            Some("make a realm with `tunnel realm init NAME --proxy HOST`, or name its directory with `--dir`".to_owned())
        } else {
            error.hint()
        };
        Self::new(error, hint, exit::CONFIG)
    }
}

impl From<daemon::server_file::ServerFileError> for Failure {
    fn from(error: daemon::server_file::ServerFileError) -> Self {
        Self::new(error, None, exit::CONFIG)
    }
}

impl From<daemon::identity::IdentityError> for Failure {
    fn from(error: daemon::identity::IdentityError) -> Self {
        let hint = identity_hint(&error);
        Self::new(error, hint, exit::CONFIG)
    }
}

impl From<daemon::files::FileError> for Failure {
    fn from(error: daemon::files::FileError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::FAILURE)
    }
}

impl From<daemon::logging::LogFilterError> for Failure {
    fn from(error: daemon::logging::LogFilterError) -> Self {
        let hint = "e.g. `TUNNEL_LOG=debug`, or `TUNNEL_LOG=agent=trace`; or use `-v`";
        Self::new(error, Some(hint.to_owned()), exit::USAGE)
    }
}

#[cfg(feature = "agent")]
impl From<agent::AgentError> for Failure {
    fn from(error: agent::AgentError) -> Self {
        let hint = error.hint();
        Self::new(error, hint.map(str::to_owned), exit::CONFIG)
    }
}

#[cfg(feature = "controller")]
impl From<controller::OpenError> for Failure {
    fn from(error: controller::OpenError) -> Self {
        use controller::OpenError;
        let code = match &error {
            OpenError::NotAController { .. }
            | OpenError::Unknown { .. }
            | OpenError::Refused { .. } => exit::REFUSED,
            OpenError::NoProxy | OpenError::NoPort { .. } | OpenError::ProxyHostKey { .. } => {
                exit::CONFIG
            }
            OpenError::Interrupted { .. } => exit::FAILURE,
            OpenError::ForeignProxy { .. } | OpenError::NoService { .. } => exit::DATA,
            OpenError::Broker { source, .. } => broker_code(source),
            // Another host key: waiting does not help.
            OpenError::Proxy { source, .. } if !source.is_transient() => exit::DATA,
            OpenError::Offline { .. }
            | OpenError::NoAnswer { .. }
            | OpenError::Proxy { .. }
            | OpenError::Stream { .. } => exit::UNAVAILABLE,
        };
        let hint = error.hint();
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "controller")]
impl From<controller::OwnSshError> for Failure {
    fn from(error: controller::OwnSshError) -> Self {
        let hint = error.hint().map(str::to_owned);
        // As ssh's own failures.
        Self::new(error, hint, 255)
    }
}

#[cfg(feature = "controller")]
impl From<controller::DisconnectError> for Failure {
    fn from(error: controller::DisconnectError) -> Self {
        let hint = error.hint();
        let code = match &error {
            controller::DisconnectError::Unknown { .. } => exit::REFUSED,
            controller::DisconnectError::Broker { source, .. } => broker_code(source),
            controller::DisconnectError::Offline { .. }
            | controller::DisconnectError::NoAnswer { .. } => exit::UNAVAILABLE,
        };
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "controller")]
impl From<controller::ListError> for Failure {
    fn from(error: controller::ListError) -> Self {
        let hint = error.hint();
        let code = broker_code(error.broker());
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "controller")]
impl From<controller::SshError> for Failure {
    fn from(error: controller::SshError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::FAILURE)
    }
}

#[cfg(feature = "controller")]
impl From<controller::FdPassError> for Failure {
    fn from(error: controller::FdPassError) -> Self {
        let hint = error.hint();
        Self::new(error, hint.map(str::to_owned), exit::FAILURE)
    }
}

#[cfg(feature = "controller")]
impl From<controller::KnownHostsError> for Failure {
    fn from(error: controller::KnownHostsError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::DATA)
    }
}

#[cfg(feature = "controller")]
impl From<controller::ForwardError> for Failure {
    fn from(error: controller::ForwardError) -> Self {
        match error {
            controller::ForwardError::Open(error) => error.into(),
            error @ (controller::ForwardError::Listen { .. } | _) => {
                let hint = error.hint();
                Self::new(error, hint, exit::FAILURE)
            }
        }
    }
}

#[cfg(feature = "controller")]
impl From<controller::SshIncludeError> for Failure {
    fn from(error: controller::SshIncludeError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

#[cfg(feature = "controller")]
impl From<controller::UnwritablePath> for Failure {
    fn from(error: controller::UnwritablePath) -> Self {
        let hint = error.hint();
        Self::new(error, Some(hint), exit::CONFIG)
    }
}

#[cfg(feature = "realm")]
impl From<signer::RevocationError> for Failure {
    fn from(error: signer::RevocationError) -> Self {
        let code = if error.is_configuration() {
            exit::CONFIG
        } else if error.is_remote() {
            exit::UNAVAILABLE
        } else {
            exit::FAILURE
        };
        let hint = error.hint();
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "realm")]
impl From<signer::LedgerError> for Failure {
    fn from(error: signer::LedgerError) -> Self {
        let code = if error.is_passing() {
            exit::UNAVAILABLE
        } else {
            exit::CONFIG
        };
        let hint = error.hint();
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "realm")]
impl From<signer::SignError> for Failure {
    fn from(error: signer::SignError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

#[cfg(feature = "aws")]
impl From<signer::AwsError> for Failure {
    fn from(error: signer::AwsError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

#[cfg(feature = "realm")]
impl From<signer::JournalError> for Failure {
    fn from(error: signer::JournalError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

impl From<enrollment::revoked::RevokedError> for Failure {
    fn from(error: enrollment::revoked::RevokedError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

impl From<enrollment::EnrollError> for Failure {
    fn from(error: enrollment::EnrollError) -> Self {
        let hint = error.hint();
        let code = if let enrollment::EnrollError::Registry(source) = &error {
            registry_code(source)
        } else {
            exit::FAILURE
        };
        Self::new(error, hint, code)
    }
}

impl From<enrollment::RegistryError> for Failure {
    fn from(error: enrollment::RegistryError) -> Self {
        let code = registry_code(&error);
        let hint = error.hint();
        Self::new(error, hint, code)
    }
}

#[cfg(feature = "github")]
impl From<enrollment::github::TokenError> for Failure {
    fn from(error: enrollment::github::TokenError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}

/// What to do about a key or a certificate of this computer.
pub(crate) fn identity_hint(error: &daemon::identity::IdentityError) -> Option<String> {
    use daemon::identity::IdentityError;
    match error {
        IdentityError::File(_) => error.hint(),
        // What else the library may find is in the file too.
        IdentityError::Pem { .. } | IdentityError::SshKey { .. } | _ => Some(
            "put the file aside: `tunnel enroll` makes a new one where it is missing".to_owned(),
        ),
    }
}

fn registry_code(error: &enrollment::RegistryError) -> u8 {
    if error.is_passing() {
        exit::UNAVAILABLE
    } else {
        exit::CONFIG
    }
}

#[cfg(feature = "controller")]
fn broker_code(error: &controller::BrokerError) -> u8 {
    match error {
        controller::BrokerError::Tls(_) | controller::BrokerError::AlwaysOn { .. } => exit::CONFIG,
        controller::BrokerError::Link(_)
        | controller::BrokerError::Turn(_)
        | controller::BrokerError::Flooded
        | controller::BrokerError::Ended => exit::UNAVAILABLE,
    }
}
