//! Who signs in a realm: its own authority, or AWS IoT Core.

use daemon::server_file::AwsRules;
use signer::Signatory;

use crate::exit;
use crate::failure::Failure;
use crate::passphrase;
use crate::serve::Realm;

/// What `server.toml` names. The authority's passphrase is looked for; nothing is asked at AWS yet.
pub(crate) fn signatory(realm: &Realm) -> Result<Signatory, Failure> {
    match aws_rules(realm) {
        Some(rules) => aws(realm, rules),
        None => Ok(passphrase::authority(&realm.dir().authority())?.into()),
    }
}

/// How AWS signs, if it does.
pub(crate) fn aws_rules(realm: &Realm) -> Option<&AwsRules> {
    realm.server().signer.aws.as_ref()
}

#[cfg(feature = "aws")]
fn aws(realm: &Realm, rules: &AwsRules) -> Result<Signatory, Failure> {
    let file = realm.file();
    let (name, suffix) = (file.realm.clone(), file.client_id_suffix.clone());
    if file.signed_by != daemon::realm_file::SignedBy::AwsIot {
        return Err(Failure::text(
            "`server.toml` has the devices signed by AWS IoT Core, and `realm.toml` does not say so",
            Some("put `signed_by = \"aws-iot\"` into realm.toml, and hand it to everybody"),
            exit::CONFIG,
        ));
    }
    Ok(signer::Aws::new(name, suffix, rules.clone())?.into())
}

#[cfg(not(feature = "aws"))]
fn aws(_: &Realm, _: &AwsRules) -> Result<Signatory, Failure> {
    Err(without_aws())
}

#[cfg(any(test, not(feature = "aws")))]
fn without_aws() -> Failure {
    Failure::text(
        "`server.toml` has the devices signed by AWS IoT Core, and this `tunnel` was built without it",
        Some("build it with `cargo build --release --features aws`"),
        exit::CONFIG,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_aws_says_which_feature_is_missing() {
        insta::assert_snapshot!(without_aws(), @r"
        error: `server.toml` has the devices signed by AWS IoT Core, and this `tunnel` was built without it
        hint: build it with `cargo build --release --features aws`
        ");
        assert_eq!(without_aws().code(), exit::CONFIG);
    }
}
