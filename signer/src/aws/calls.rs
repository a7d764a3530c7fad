//! The seven calls that the signer makes.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::connection::Call;
use super::{Aws, AwsError};

/// A certificate as AWS has made it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names that AWS gives them")]
pub(super) struct Made {
    pub(super) certificate_arn: String,
    pub(super) certificate_id: String,
    pub(super) certificate_pem: String,
}

/// A certificate in the list of an account.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) certificate_arn: String,
    pub(super) certificate_id: String,
    pub(super) status: Status,
    /// When it was made, in seconds since 1970.
    pub(super) creation_date: f64,
}

/// Whether a certificate opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Status {
    Active,
    Revoked,
    Inactive,
    /// On its way to another account, or waiting for something: it opens nothing.
    #[serde(other)]
    Other,
}

impl Aws {
    /// Makes a certificate, inactive. Not repeated when it may have been carried out.
    pub(super) async fn create(&self, csr_pem: &str) -> Result<Made, AwsError> {
        let mut call = post(
            "CreateCertificateFromCsr",
            "/certificates?setAsActive=false",
        );
        call.body = Some(json!({ "certificateSigningRequest": csr_pem }));
        call.repeatable = false;
        parse(&call, self.connection.call(&call).await?)
    }

    /// Gives a certificate a policy. One that it has stays.
    pub(super) async fn attach_policy(&self, policy: &str, arn: &str) -> Result<(), AwsError> {
        let call = Call {
            method: "PUT",
            body: Some(json!({ "target": arn })),
            ..post(
                "AttachPolicy",
                &format!("/target-policies/{}", encoded(policy)),
            )
        };
        match self.connection.call(&call).await {
            Ok(_) => Ok(()),
            Err(AwsError::Refused { status: 404, .. }) => Err(AwsError::Policy {
                policy: policy.to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Takes a policy from a certificate.
    pub(super) async fn detach_policy(&self, policy: &str, arn: &str) -> Result<(), AwsError> {
        let call = Call {
            body: Some(json!({ "target": arn })),
            ..post(
                "DetachPolicy",
                &format!("/target-policies/{}", encoded(policy)),
            )
        };
        match self.connection.call(&call).await {
            // The first of two tries, whose answer was lost, has done it.
            Ok(_) | Err(AwsError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The names of the policies that a certificate has: one page, as a certificate has at most ten.
    pub(super) async fn attached_policies(&self, arn: &str) -> Result<Vec<String>, AwsError> {
        #[derive(Deserialize)]
        struct Page {
            policies: Vec<Policy>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Policy {
            policy_name: String,
        }
        let target = format!("/attached-policies/{}?pageSize=250", encoded(arn));
        let call = post("ListAttachedPolicies", &target);
        let page: Page = parse(&call, self.connection.call(&call).await?)?;
        Ok(page
            .policies
            .into_iter()
            .map(|policy| policy.policy_name)
            .collect())
    }

    /// Makes a certificate active, or revokes it for ever.
    pub(super) async fn update(&self, id: &str, status: &str) -> Result<(), AwsError> {
        let target = format!(
            "/certificates/{}?newStatus={}",
            encoded(id),
            encoded(status)
        );
        let call = Call {
            method: "PUT",
            ..post("UpdateCertificate", &target)
        };
        self.connection.call(&call).await.map(drop)
    }

    /// One page of the account's certificates, the newest first, and the mark of the next.
    pub(super) async fn page(
        &self,
        marker: Option<&str>,
    ) -> Result<(Vec<Listed>, Option<String>), AwsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            certificates: Vec<Listed>,
            #[serde(default)]
            next_marker: Option<String>,
        }
        let marker = marker.map(|marker| format!("&marker={}", encoded(marker)));
        let target = format!(
            "/certificates?isAscendingOrder=false{}&pageSize={PAGE}",
            marker.unwrap_or_default()
        );
        let call = Call {
            method: "GET",
            ..post("ListCertificates", &target)
        };
        let page: Page = parse(&call, self.connection.call(&call).await?)?;
        Ok((
            page.certificates,
            page.next_marker.filter(|marker| !marker.is_empty()),
        ))
    }

    /// The text of a certificate.
    pub(super) async fn describe(&self, id: &str) -> Result<String, AwsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Described {
            certificate_description: Description,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Description {
            certificate_pem: String,
        }
        let call = Call {
            method: "GET",
            ..post(
                "DescribeCertificate",
                &format!("/certificates/{}", encoded(id)),
            )
        };
        let described: Described = parse(&call, self.connection.call(&call).await?)?;
        Ok(described.certificate_description.certificate_pem)
    }
}

fn post(action: &'static str, target: &str) -> Call {
    Call {
        action,
        method: "POST",
        target: target.to_owned(),
        body: None,
        repeatable: true,
    }
}

fn parse<T: DeserializeOwned>(call: &Call, answer: Value) -> Result<T, AwsError> {
    serde_json::from_value(answer).map_err(|_| AwsError::Answer {
        action: call.action,
    })
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend(hex(byte));
        }
    }
    out
}

/// An octet as two digits.
pub(super) fn hex(octet: u8) -> [char; 2] {
    [octet >> 4, octet & 15].map(|half| {
        let digit = char::from_digit(half.into(), 16).unwrap_or('0');
        digit.to_ascii_uppercase()
    })
}

/// Certificates in a page: the most that AWS gives.
const PAGE: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place_in_the_path() {
        assert_eq!(encoded("tunnel.target"), "tunnel.target");
        assert_eq!(encoded("a/../b?c&d"), "a%2F..%2Fb%3Fc%26d");
        assert_eq!(encoded("arn:aws:iot"), "arn%3Aaws%3Aiot");
    }

    #[test]
    fn a_status_that_is_not_known_opens_nothing() {
        let status = |text: &str| serde_json::from_value::<Status>(json!(text)).unwrap();
        assert_eq!(status("ACTIVE"), Status::Active);
        assert_eq!(status("PENDING_TRANSFER"), Status::Other);
    }
}
