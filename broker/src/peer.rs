//! Whose certificate it is.

use std::net::SocketAddr;

use policies::{Subject, SubjectError};
use protocol::{ClientIdSuffix, DeviceId, Label, NameError};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::{X509Error, X509Result};
use x509_parser::nom::Err as NomErr;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::revocation::CertificateName;

/// A device of this realm, as its verified certificate says.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) id: DeviceId,
    pub(crate) address: SocketAddr,
    /// Which of the device's certificates it is.
    pub(crate) certificate: CertificateName,
    /// The certificates that came with it. Each of them may be revoked too.
    pub(crate) intermediates: Box<[CertificateName]>,
    /// What policies are asked about; its client id is the certificate's common name.
    pub(crate) subject: Subject,
}

/// Why a certificate is no device's of this realm, though one of the authorities signed it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PeerError {
    #[error("the certificate cannot be read")]
    Certificate(#[source] NomErr<X509Error>),
    #[error("the certificate's subject has {count} {attribute}, not one")]
    Count {
        attribute: &'static str,
        count: usize,
    },
    #[error("the {attribute} of the certificate's subject is no text")]
    NoText { attribute: &'static str },
    #[error("the common name {name:?} is no client id")]
    Name {
        name: String,
        #[source]
        source: NameError,
    },
    #[error("the certificate's common name is that of `{id}`, and its O or OU is not")]
    Contradiction { id: DeviceId },
    #[error("`{id}` is of another realm")]
    Realm { id: DeviceId },
    #[error("policies cannot decide for this certificate")]
    Subject(#[source] SubjectError),
}

impl Peer {
    /// The device that this certificate (DER) belongs to. CN, O and OU must be there once each and say the same.
    pub(crate) fn of_certificate(
        der: &[u8],
        address: SocketAddr,
        realm: &Label,
        suffix: &ClientIdSuffix,
    ) -> Result<Self, PeerError> {
        let parsed: X509Result<'_, X509Certificate<'_>> = X509Certificate::from_der(der);
        let (_, certificate) = parsed.map_err(PeerError::Certificate)?;
        let subject: &X509Name<'_> = certificate.subject();
        let common_name = only("CN", subject.iter_common_name())?;
        let organization = only("O", subject.iter_organization())?;
        let unit = only("OU", subject.iter_organizational_unit())?;
        let id = suffix
            .device_id(common_name)
            .map_err(|source| PeerError::Name {
                name: common_name.to_owned(),
                source,
            })?;
        if id.system().as_str() != organization || id.device().as_str() != unit {
            return Err(PeerError::Contradiction { id });
        }
        if id.realm() != realm {
            return Err(PeerError::Realm { id });
        }
        let subject = subject_of(common_name, &id).map_err(PeerError::Subject)?;
        Ok(Self {
            id,
            address,
            certificate: CertificateName::of(&certificate),
            intermediates: Box::default(),
            subject,
        })
    }
}

/// What policies are asked about for a device with this client id: its certificate says the same three times.
pub(crate) fn subject_of(client_id: &str, id: &DeviceId) -> Result<Subject, SubjectError> {
    Subject::new(client_id)?
        .with_common_name(client_id)?
        .with_organization(id.system().as_str())?
        .with_organizational_unit(id.device().as_str())
}

/// The one value of an attribute. Of two, one would be checked and the other believed somewhere else.
fn only<'a>(
    attribute: &'static str,
    mut values: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<&'a str, PeerError> {
    match (values.next(), values.next()) {
        (Some(value), None) => value.as_str().map_err(|_| PeerError::NoText { attribute }),
        (None, _) => Err(PeerError::Count {
            attribute,
            count: 0,
        }),
        (Some(_), Some(_)) => Err(PeerError::Count {
            attribute,
            count: 2 + values.count(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn read(attributes: &[(DnType, &str)]) -> Result<Peer, PeerError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let suffix = ".example.org".parse().unwrap();
        Peer::of_certificate(
            certificate.der(),
            "127.0.0.1:1".parse().unwrap(),
            &"atlas".parse().unwrap(),
            &suffix,
        )
    }

    fn subject<'a>(cn: &'a str, o: &'a str, ou: &'a str) -> [(DnType, &'a str); 3] {
        [
            (DnType::CommonName, cn),
            (DnType::OrganizationName, o),
            (DnType::OrganizationalUnitName, ou),
        ]
    }

    #[test]
    fn a_device_is_who_all_three_names_say() {
        let peer = read(&subject("333.hula.atlas.example.org", "hula", "333")).unwrap();
        assert_eq!(peer.id, "333.hula.atlas".parse().unwrap());
        assert_eq!(peer.subject.client_id(), "333.hula.atlas.example.org");
    }

    #[test]
    fn anything_else_is_nobody() {
        let refused = |cn, o, ou| read(&subject(cn, o, ou)).unwrap_err();
        assert!(matches!(
            refused("333.hula.atlas.example.org", "other", "333"),
            PeerError::Contradiction { .. }
        ));
        assert!(matches!(
            refused("333.hula.atlas.example.org", "hula", "334"),
            PeerError::Contradiction { .. }
        ));
        assert!(matches!(
            refused("333.hula.other.example.org", "hula", "333"),
            PeerError::Realm { .. }
        ));
        for name in [
            "333.hula.atlas",
            "a/b.hula.atlas.example.org",
            "+.hula.atlas.example.org",
            ".example.org",
            "#",
        ] {
            assert!(
                matches!(refused(name, "hula", "333"), PeerError::Name { .. }),
                "{name}"
            );
        }
        let [cn, o, ou] = subject("333.hula.atlas.example.org", "hula", "333");
        let missing = read(&[cn.clone(), o.clone()]).unwrap_err();
        assert!(matches!(
            missing,
            PeerError::Count {
                attribute: "OU",
                count: 0
            }
        ));
        assert!(matches!(
            read(&[o, ou]),
            Err(PeerError::Count {
                attribute: "CN",
                count: 0
            })
        ));
        assert!(
            Peer::of_certificate(
                b"garbage",
                "127.0.0.1:1".parse().unwrap(),
                &"atlas".parse().unwrap(),
                &"".parse().unwrap()
            )
            .is_err()
        );
    }
}
