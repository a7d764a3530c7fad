//! A document for one AWS account, to be given to `CreatePolicy`.

use serde::Serialize;

use crate::arn::{is_account, is_region};
use crate::document::VERSION;
use crate::name;
use crate::statement::Statement;
use crate::{Policy, RealmError};

/// Why a document cannot be written for a place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    /// Not the form of a region's name.
    #[error("`{region}` is not an AWS region")]
    Region {
        /// What was given.
        region: String,
    },
    /// Not the form of an account's number.
    #[error("`{account}` is not an AWS account: those have 12 digits")]
    Account {
        /// What was given.
        account: String,
    },
    /// The realm has no usable name.
    #[error(transparent)]
    Realm(#[from] RealmError),
    /// AWS would refuse it, most likely for the length of the realm's name.
    #[error(
        "the policy document has {length} characters without white space; AWS IoT takes {MAX_AWS_DOCUMENT}"
    )]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// It cannot be written as JSON.
    #[error("the policy document cannot be written")]
    Json(#[source] serde_json::Error),
}

/// The longest policy document that AWS IoT Core takes, in characters without white space (AWS IoT Core quotas, "Maximum
/// policy document size").
pub const MAX_AWS_DOCUMENT: usize = 2048;

/// The document for this region, account and realm, as indented JSON.
///
/// Fields that already name a place are left as they are.
pub fn aws(policy: &Policy, region: &str, account: &str, realm: &str) -> Result<String, AwsError> {
    if !is_region(region) {
        return Err(AwsError::Region {
            region: region.to_owned(),
        });
    }
    if !is_account(account) {
        return Err(AwsError::Account {
            account: account.to_owned(),
        });
    }
    name::check(realm).map_err(RealmError)?;
    let written = |statement: &Statement| WrittenStatement {
        sid: statement.sid.clone(),
        effect: statement.effect.to_string(),
        action: statement
            .actions
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .into(),
        resource: statement
            .resources
            .iter()
            .map(|arn| arn.placed(region, account, realm).to_string())
            .collect::<Vec<_>>()
            .into(),
    };
    let document = WrittenDocument {
        version: VERSION,
        statement: policy.statements().iter().map(written).collect(),
    };
    let json = serde_json::to_string_pretty(&document).map_err(AwsError::Json)?;
    let length = json.chars().filter(|c| !c.is_whitespace()).count();
    if length > MAX_AWS_DOCUMENT {
        return Err(AwsError::TooLong { length });
    }
    Ok(json)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenDocument {
    version: &'static str,
    statement: Vec<WrittenStatement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenStatement {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: String,
    action: OneOrMore,
    resource: OneOrMore,
}

/// A list of one is written without its brackets, which saves some of the 2,048 characters.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<Vec<String>> for OneOrMore {
    fn from(mut texts: Vec<String>) -> Self {
        match (texts.pop(), texts.is_empty()) {
            (Some(only), true) => Self::One(only),
            (last, _) => {
                texts.extend(last);
                Self::More(texts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, RoleDocument, Subject};

    #[test]
    fn what_is_written_decides_as_the_document_does() {
        for role in RoleDocument::ALL {
            let policy = role.policy().unwrap();
            let written = aws(&policy, "eu-central-1", "123456789012", "atlas").unwrap();
            for placeholder in ["REGION", "ACCOUNT", "REALM"] {
                assert!(!written.contains(placeholder), "{written}");
            }
            let again = Policy::parse(written.as_bytes()).unwrap();
            // The realm is in it: binding it to another one changes nothing.
            assert_eq!(
                again.bind("borealis").unwrap(),
                policy.bind("atlas").unwrap()
            );
            let subject = Subject::new("333.hula.atlas")
                .unwrap()
                .with_common_name("333.hula.atlas")
                .unwrap();
            assert!(
                again
                    .bind("borealis")
                    .unwrap()
                    .decide(&subject, Action::Connect, "333.hula.atlas")
                    .is_allowed()
            );
        }
    }

    #[test]
    fn the_longest_realm_in_the_region_with_the_longest_name_fits() {
        for role in RoleDocument::ALL {
            let policy = role.policy().unwrap();
            for region in ["ap-southeast-1", "ap-northeast-1"] {
                assert!(
                    aws(&policy, region, "123456789012", &"r".repeat(63)).is_ok(),
                    "{}",
                    role.name()
                );
            }
            let long = aws(&policy, "eu-central-1", "123456789012", &"r".repeat(253));
            assert!(matches!(long, Err(AwsError::TooLong { .. })));
        }
    }

    #[test]
    fn nothing_can_be_slipped_into_a_field() {
        let policy = RoleDocument::Target.policy().unwrap();
        let region = aws(&policy, "*", "123456789012", "atlas");
        assert!(matches!(region, Err(AwsError::Region { .. })));
        let account = aws(&policy, "eu-central-1", "1234", "atlas");
        assert!(matches!(account, Err(AwsError::Account { .. })));
        let realm = aws(&policy, "eu-central-1", "123456789012", "atlas/*");
        assert!(matches!(realm, Err(AwsError::Realm(_))));
    }
}
