//! The name of a resource: `arn:aws:iot:REGION:ACCOUNT:topic/REALM/…`.
//!
//! In a document that is not yet for one place, three upper-case words stand for what is: region and account as whole
//! fields, the realm as the first level of a topic or filter. No realm or region has upper-case letters.

use std::fmt;

use crate::pattern::Pattern;
use crate::{PatternError, ResourceKind};

/// A parsed resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arn {
    partition: &'static str,
    region: Option<Box<str>>,
    account: Option<Box<str>>,
    kind: ResourceKind,
    /// Whether the first level is yet to be filled in.
    realm_unset: bool,
    /// What follows the kind's slash, and the realm's word if that is first.
    name: Pattern,
}

/// Why a text is not the name of an AWS IoT resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArnError {
    /// Not of six fields, or not an ARN at all. `*` alone, which AWS takes, is refused here.
    #[error("it is not `arn:PARTITION:iot:REGION:ACCOUNT:KIND/NAME`")]
    Form,
    /// A partition that AWS does not have.
    #[error("`{found}` is not an AWS partition")]
    Partition {
        /// What stands there.
        found: String,
    },
    /// Another service than IoT.
    #[error("`{found}` is not the service `iot`")]
    Service {
        /// What stands there.
        found: String,
    },
    /// Not a region's name.
    #[error("`{found}` is neither a region nor `{REGION}`")]
    Region {
        /// What stands there.
        found: String,
    },
    /// Not an account number.
    #[error("`{found}` is neither an account of 12 digits nor `{ACCOUNT}`")]
    Account {
        /// What stands there.
        found: String,
    },
    /// A kind of resource that no action here is decided on.
    #[error("`{found}` is not `client`, `topic` or `topicfilter`")]
    Kind {
        /// What stands there.
        found: String,
    },
    /// Nothing behind the kind.
    #[error("the name of the resource is empty")]
    Empty,
    /// Bad variables in the name.
    #[error(transparent)]
    Name(#[from] PatternError),
}

/// Stands for the region.
pub(crate) const REGION: &str = "REGION";
/// Stands for the account number.
pub(crate) const ACCOUNT: &str = "ACCOUNT";
/// Stands for the realm.
pub(crate) const REALM: &str = "REALM";

/// AWS's partitions with the beginnings of their regions' names; the last takes all other regions.
const PARTITIONS: [(&str, &str); 3] = [("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("", "aws")];

/// The longest region name taken, in bytes; today's longest have 14.
const MAX_REGION: usize = 32;

impl Arn {
    pub(crate) fn parse(text: &str) -> Result<Self, ArnError> {
        let mut fields = text.splitn(6, ':');
        let (
            Some("arn"),
            Some(partition),
            Some(service),
            Some(region),
            Some(account),
            Some(resource),
        ) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        )
        else {
            return Err(ArnError::Form);
        };
        let partition = PARTITIONS
            .iter()
            .find_map(|(_, known)| (*known == partition).then_some(*known))
            .ok_or_else(|| ArnError::Partition {
                found: partition.to_owned(),
            })?;
        if service != "iot" {
            return Err(ArnError::Service {
                found: service.to_owned(),
            });
        }
        if region != REGION && !is_region(region) {
            return Err(ArnError::Region {
                found: region.to_owned(),
            });
        }
        if account != ACCOUNT && !is_account(account) {
            return Err(ArnError::Account {
                found: account.to_owned(),
            });
        }
        let (word, name) = resource.split_once('/').ok_or(ArnError::Form)?;
        let kind = ResourceKind::from_word(word).ok_or_else(|| ArnError::Kind {
            found: word.to_owned(),
        })?;
        if name.is_empty() {
            return Err(ArnError::Empty);
        }
        let behind_realm = match kind {
            ResourceKind::Client => None,
            ResourceKind::Topic | ResourceKind::TopicFilter => name
                .strip_prefix(REALM)
                .filter(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        Ok(Self {
            partition,
            region: (region != REGION).then(|| region.into()),
            account: (account != ACCOUNT).then(|| account.into()),
            kind,
            realm_unset: behind_realm.is_some(),
            name: Pattern::parse(behind_realm.unwrap_or(name))?,
        })
    }

    pub(crate) fn kind(&self) -> ResourceKind {
        self.kind
    }

    /// The name without the realm.
    pub(crate) fn pattern(&self) -> &Pattern {
        &self.name
    }

    /// The whole name in this realm.
    pub(crate) fn in_realm(&self, realm: &str) -> Pattern {
        if self.realm_unset {
            self.name.after(realm)
        } else {
            self.name.clone()
        }
    }

    /// The same resource in one place, where it does not name another already.
    pub(crate) fn placed(&self, region: &str, account: &str, realm: &str) -> Self {
        Self {
            partition: if self.region.is_some() {
                self.partition
            } else {
                partition_of(region)
            },
            region: self.region.clone().or_else(|| Some(region.into())),
            account: self.account.clone().or_else(|| Some(account.into())),
            kind: self.kind,
            realm_unset: false,
            name: self.in_realm(realm),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_deref().unwrap_or(REGION);
        let account = self.account.as_deref().unwrap_or(ACCOUNT);
        let realm = if self.realm_unset { REALM } else { "" };
        write!(
            f,
            "arn:{}:iot:{region}:{account}:{}/{realm}{}",
            self.partition, self.kind, self.name
        )
    }
}

/// Whether the text has the form of a region's name, e.g. `eu-central-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_REGION).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether the text has the form of an account number: AWS gives them 12 digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn partition_of(region: &str) -> &'static str {
    PARTITIONS
        .iter()
        .find_map(|(begin, name)| region.starts_with(begin).then_some(*name))
        .unwrap_or("aws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_checked() {
        let found = |text: &str| text.to_owned();
        let cases = [
            ("*", ArnError::Form),
            ("", ArnError::Form),
            ("arn:aws:iot:REGION:ACCOUNT", ArnError::Form),
            ("arn:aws:iot:REGION:ACCOUNT:topic", ArnError::Form),
            ("urn:aws:iot:REGION:ACCOUNT:topic/a", ArnError::Form),
            (
                "arn:*:iot:REGION:ACCOUNT:topic/a",
                ArnError::Partition { found: found("*") },
            ),
            (
                "arn:aws:s3:REGION:ACCOUNT:topic/a",
                ArnError::Service { found: found("s3") },
            ),
            (
                "arn:aws:iot:*:ACCOUNT:topic/a",
                ArnError::Region { found: found("*") },
            ),
            (
                "arn:aws:iot::ACCOUNT:topic/a",
                ArnError::Region { found: found("") },
            ),
            (
                "arn:aws:iot:REGION:12345678901:topic/a",
                ArnError::Account {
                    found: found("12345678901"),
                },
            ),
            (
                "arn:aws:iot:REGION:ACCOUNT:thing/a",
                ArnError::Kind {
                    found: found("thing"),
                },
            ),
            (
                "arn:aws:iot:REGION:ACCOUNT:*/a",
                ArnError::Kind { found: found("*") },
            ),
            ("arn:aws:iot:REGION:ACCOUNT:topic/", ArnError::Empty),
            (
                "arn:aws:iot:REGION:ACCOUNT:topic/${",
                ArnError::Name(PatternError::Unclosed),
            ),
        ];
        for (text, error) in cases {
            assert_eq!(Arn::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn only_whole_fields_are_filled_in() {
        let placed = |text: &str| {
            Arn::parse(text)
                .unwrap()
                .placed("eu-central-1", "123456789012", "atlas")
                .to_string()
        };
        let cases = [
            ("topic/REALM/x/REALM/REGION", "topic/atlas/x/REALM/REGION"),
            ("topic/REALM", "topic/atlas"),
            ("topic/REALMS/x", "topic/REALMS/x"),
            ("topicfilter/REALM/+", "topicfilter/atlas/+"),
            ("topic/other/REALM", "topic/other/REALM"),
            ("client/REALM/x", "client/REALM/x"),
        ];
        for (template, wanted) in cases {
            let template = format!("arn:aws:iot:REGION:ACCOUNT:{template}");
            assert_eq!(Arn::parse(&template).unwrap().to_string(), template);
            assert_eq!(
                placed(&template),
                format!("arn:aws:iot:eu-central-1:123456789012:{wanted}")
            );
        }
        let elsewhere = "arn:aws-cn:iot:cn-north-1:210987654321:topic/borealis/x";
        assert_eq!(placed(elsewhere), elsewhere);
    }

    #[test]
    fn the_region_decides_the_partition() {
        let arn = Arn::parse("arn:aws:iot:REGION:ACCOUNT:topic/REALM/a").unwrap();
        for (region, partition) in [
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-west-2", "aws"),
        ] {
            let placed = arn.placed(region, "123456789012", "atlas").to_string();
            assert!(
                placed.starts_with(&format!("arn:{partition}:iot:{region}:")),
                "{placed}"
            );
        }
    }
}
