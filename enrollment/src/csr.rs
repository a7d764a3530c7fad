//! The certificate request of a device.

use protocol::{ClientIdSuffix, DeviceId};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::{pem_block, subject};

/// A request could not be signed with the device's key.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate request for `{id}`")]
pub struct CsrError {
    id: DeviceId,
    #[source]
    source: rcgen::Error,
}

/// Makes a request as PEM: the subject and nothing else, because the signer decides all the rest.
pub fn create(key: &KeyPair, id: &DeviceId, suffix: &ClientIdSuffix) -> Result<String, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject::distinguished_name(id, suffix);
    params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(|source| CsrError {
            id: id.clone(),
            source,
        })
}

/// Whether a request found in the registry is ours: for this key and this subject. The signature is the signer's matter.
pub fn is_ours(text: &str, key: &KeyPair, id: &DeviceId, suffix: &ClientIdSuffix) -> bool {
    let Ok(der) = pem_block::single(text, pem_block::CERTIFICATE_REQUEST) else {
        return false;
    };
    X509CertificationRequest::from_der(&der).is_ok_and(|(_, request)| {
        let info = &request.certification_request_info;
        info.subject_pki.raw == key.subject_public_key_info()
            && subject::is_of(&info.subject, id, suffix)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn openssl_verifies_what_we_make() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.csr");
        let (id, suffix): (DeviceId, ClientIdSuffix) = (
            "333.hula.atlas".parse().unwrap(),
            ".example.org".parse().unwrap(),
        );
        let key = KeyPair::generate().unwrap();
        let request = create(&key, &id, &suffix).unwrap();
        std::fs::write(&path, &request).unwrap();
        let output = Command::new("openssl")
            .args([
                "req",
                "-verify",
                "-noout",
                "-text",
                "-nameopt",
                "RFC2253,-dn_rev",
                "-in",
            ])
            .arg(&path)
            .output()
            .unwrap();
        let all = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{all}");
        assert!(all.contains("verify OK"), "{all}");
        assert!(
            all.contains("Subject: CN=333.hula.atlas.example.org,OU=333,O=hula\n"),
            "{all}"
        );
        assert!(all.contains("(none)"), "no attributes: {all}");

        assert!(is_ours(&request, &key, &id, &suffix));
        assert!(!is_ours(
            &request,
            &KeyPair::generate().unwrap(),
            &id,
            &suffix
        ));
        assert!(!is_ours(&request, &key, &id, &ClientIdSuffix::default()));
        assert!(!is_ours("", &key, &id, &suffix));
    }
}
