//! What goes wrong with AWS, and what the administrator can do about it.

use std::error::Error;
use std::time::Duration;

/// Why AWS IoT Core did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// The answer is none that this call has.
    #[error("the answer of AWS to `iot:{action}` cannot be read")]
    Answer {
        /// The call.
        action: &'static str,
    },
    /// The certificate that AWS has made is not what was asked for.
    #[error(
        "the certificate `{id}` that AWS has made is not for the key and the name of the request"
    )]
    Certificate {
        /// Its id at AWS.
        id: String,
    },
    /// The usual places were looked at, and there is nothing.
    #[error("there are no AWS credentials")]
    Credentials {
        /// What was found where.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The address of the control plane cannot be used.
    #[error("`{endpoint}` is not the `https://` address of AWS IoT Core's control plane")]
    Endpoint {
        /// What was configured.
        endpoint: String,
    },
    /// The account has more certificates than are looked at.
    #[error("the AWS account has more than {limit} certificates in this region")]
    TooMany {
        /// How many are looked at.
        limit: usize,
    },
    /// The policy that the certificate should get does not exist.
    #[error("there is no policy `{policy}` in AWS IoT Core, or the certificate is gone")]
    Policy {
        /// Its name.
        policy: String,
    },
    /// Nobody says in which region the realm is.
    #[error("it is not known which AWS region the realm is in")]
    Region,
    /// AWS said no.
    #[error("AWS refused `iot:{action}` ({status} {code}): {message}")]
    Refused {
        /// The call.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// The kind of refusal, e.g. `AccessDeniedException`.
        code: String,
        /// The words of AWS.
        message: String,
    },
    /// The call could not be signed.
    #[error("the call `iot:{action}` cannot be signed")]
    Sign {
        /// The call.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It took too long.
    #[error("AWS did not answer `iot:{action}` within {limit:?}")]
    TimedOut {
        /// The call.
        action: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// AWS cannot be reached, or the connection broke.
    #[error("AWS cannot be reached for `iot:{action}`")]
    Unreachable {
        /// The call.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl AwsError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Credentials { .. } => Some(
                "set `AWS_PROFILE`, or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or give the instance a role"
                    .to_owned(),
            ),
            Self::Endpoint { .. } => Some(
                "remove `endpoint` of `[signer.aws]` in server.toml, unless it is a VPC endpoint".to_owned(),
            ),
            Self::Policy { policy } => Some(format!(
                "`tunnel policies aws` prints it: make it with `aws iot create-policy --policy-name {policy}`"
            )),
            Self::Region => Some(
                "name it as `region` of `[signer.aws]` in server.toml, or in `AWS_REGION`".to_owned(),
            ),
            Self::Refused { action, code, status, .. } => refusal_hint(action, code, *status),
            Self::TimedOut { .. } | Self::Unreachable { .. } => Some(
                "the next run goes on where this one was interrupted; check the region and the network".to_owned(),
            ),
            Self::Answer { .. } => Some(
                "something else than AWS may have answered: check `endpoint` of `[signer.aws]` in server.toml, and a proxy on the way"
                    .to_owned(),
            ),
            Self::TooMany { .. } => Some(
                "delete the certificates that are of no use any more, or give the realm an account of its own"
                    .to_owned(),
            ),
            Self::Certificate { id } => Some(format!(
                "nobody gets it; see with `aws iot describe-certificate --certificate-id {id}` what AWS has made"
            )),
            Self::Sign { .. } => None,
        }
    }

    /// Whether it is in the configuration or the rights, which waiting does not mend.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Credentials { .. }
            | Self::Endpoint { .. }
            | Self::Policy { .. }
            | Self::Region => true,
            Self::Refused { status, .. } => (400..500).contains(status) && !self.is_throttled(),
            Self::Answer { .. }
            | Self::Certificate { .. }
            | Self::TooMany { .. }
            | Self::Sign { .. }
            | Self::TimedOut { .. }
            | Self::Unreachable { .. } => false,
        }
    }

    /// Whether AWS has turned the call away unread, because there were too many.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused { status, code, .. }
            if *status == 429 || THROTTLED.contains(&code.as_str()))
    }

    /// Whether the same call may succeed a moment later. It may have been carried out already.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500 || self.is_throttled(),
            Self::TimedOut { .. } | Self::Unreachable { .. } => true,
            Self::Answer { .. }
            | Self::Certificate { .. }
            | Self::Credentials { .. }
            | Self::Endpoint { .. }
            | Self::TooMany { .. }
            | Self::Policy { .. }
            | Self::Region
            | Self::Sign { .. } => false,
        }
    }

    /// Whether the credentials were those of yesterday.
    pub(super) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.starts_with("ExpiredToken"))
    }
}

fn refusal_hint(action: &str, code: &str, status: u16) -> Option<String> {
    if status == 429 || THROTTLED.contains(&code) {
        return Some("there were too many calls: it will be tried again".to_owned());
    }
    match code {
        "AccessDeniedException" | "AccessDenied" | "ForbiddenException" => Some(format!(
            "permit `iot:{action}` to the signer; docs/enrollment.md has all that it needs"
        )),
        "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "UnauthorizedException"
        | "UnrecognizedClientException" => {
            Some("the AWS credentials are wrong or have expired: get new ones".to_owned())
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestTimeTooSkewed" => {
            Some("the secret key is wrong, or the clock of this computer".to_owned())
        }
        "LimitExceededException" => {
            Some("the quotas of AWS IoT Core for this account are used up".to_owned())
        }
        _ => None,
    }
}

const THROTTLED: [&str; 4] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> AwsError {
        AwsError::Refused {
            action: "AttachPolicy",
            status,
            code: code.to_owned(),
            message: "no".to_owned(),
        }
    }

    #[test]
    fn who_may_not_is_told_what_is_missing() {
        let error = refused(403, "AccessDeniedException");
        assert!(error.hint().unwrap().contains("`iot:AttachPolicy`"));
        assert!(error.is_configuration() && !error.is_passing());
    }

    #[test]
    fn what_passes_is_not_the_configuration() {
        for error in [
            refused(429, ""),
            refused(400, "ThrottlingException"),
            refused(503, ""),
        ] {
            assert!(error.is_passing() && !error.is_configuration(), "{error}");
        }
        assert!(!refused(503, "").is_throttled());
        assert!(!refused(400, "InvalidRequestException").is_passing());
    }
}
