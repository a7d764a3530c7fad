//! The check of a certificate request: a pure decision about hostile text.

use enrollment::pem_block::{self, PemBlockError};
use enrollment::public_key::MIN_RSA_BITS;
use enrollment::registry::Author;
use enrollment::{
    BodyFault, Decision, Entry, Kind, Refusal, Revision, Revoked, UploadPermission, subject,
};
use protocol::{ClientIdSuffix, DeviceId, Label};
use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_NIST_EC_P384, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// A request that may be signed. Only [`Rules::check`] makes one.
#[derive(Clone, Debug)]
pub struct AcceptedRequest {
    id: DeviceId,
    suffix: ClientIdSuffix,
    public_key: SubjectPublicKeyInfo,
}

/// What a realm's requests are checked against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The realm that is signed for.
    pub realm: Label,
    /// The end of its client ids.
    pub suffix: ClientIdSuffix,
    /// Whose requests are served.
    pub permission: UploadPermission,
}

/// Why a request is not signed. The text goes to whoever uploaded it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// A challenge password, or anything else that is to be copied or kept.
    #[error("the request has attributes")]
    Attributes,
    /// The entry has no text.
    #[error("the request cannot be used: {0}")]
    Body(BodyFault),
    /// Extensions, such as other names or the right to sign.
    #[error("the request asks for extensions")]
    Extensions,
    /// A key of a kind that the realm's parts do not all know.
    #[error("the key is neither ECDSA P-256 or P-384 nor RSA")]
    KeyType,
    /// It is not a PKCS#10 request.
    #[error("the request cannot be parsed")]
    Malformed,
    /// It is not one PEM block.
    #[error("the request is not one PEM block: {0}")]
    Pem(PemBlockError),
    /// The author may not.
    #[error("{author} may not request a certificate for `{id}`")]
    Permission {
        /// Who asked.
        author: Author,
        /// For whom.
        id: DeviceId,
    },
    /// It is for another realm.
    #[error("this signer signs for the realm `{0}` only")]
    Realm(Label),
    /// The device has been shut out.
    #[error("`{0}` has been revoked")]
    Revoked(DeviceId),
    /// The key is that of a certificate which has been revoked: it may have been stolen.
    #[error("the key is that of a certificate which has been revoked")]
    RevokedKey,
    /// It was answered before. Whoever brings it again need not be who made it.
    #[error("the request has been answered before")]
    Replayed,
    /// An RSA key outside the allowed sizes.
    #[error("an RSA key of {bits} bits is not within {MIN_RSA_BITS} to {MAX_RSA_BITS}")]
    RsaSize {
        /// Its size.
        bits: usize,
    },
    /// Whoever made the request does not have the key.
    #[error("the signature of the request does not verify")]
    Signature(#[source] X509Error),
    /// A signature that proves nothing any more, such as one over SHA-1.
    #[error("the request is not signed with ECDSA or RSA over SHA-256, SHA-384 or SHA-512")]
    SignatureAlgorithm,
    /// It names somebody else.
    #[error("the subject is {found:?} where {expected:?} is the only one allowed")]
    Subject {
        /// Whom it names, cut to a readable length.
        found: String,
        /// Whom it should name.
        expected: String,
    },
    /// Nobody has decided yet whether the author may. This is nothing to tell them.
    #[error("nobody has decided whether {author} may request a certificate for `{id}`")]
    Undecided {
        /// Who asked.
        author: Author,
        /// For whom.
        id: DeviceId,
    },
}

impl Rules {
    /// Checks one entry of the registry. Blocks for as long as the permission does.
    pub fn check(&self, entry: &Entry) -> Result<AcceptedRequest, RequestRefusal> {
        let id = entry.title.id();
        if *id.realm() != self.realm {
            return Err(RequestRefusal::Realm(self.realm.clone()));
        }
        // Before anything is parsed: a stranger is to cost as little as possible, and to learn as little.
        let (author, for_id) = (entry.author.clone(), id.clone());
        match self.permission.decide(&entry.author, id) {
            Decision::Permitted => {}
            Decision::Refused => {
                return Err(RequestRefusal::Permission { author, id: for_id });
            }
            Decision::Undecided => return Err(RequestRefusal::Undecided { author, id: for_id }),
        }
        let limit = Kind::CertificateRequest.max_body();
        let text = entry
            .body
            .as_ref()
            .map_err(|fault| RequestRefusal::Body(fault.clone()))?;
        if text.len() > limit {
            return Err(RequestRefusal::Body(BodyFault::TooLarge { limit }));
        }
        let der =
            pem_block::single(text, pem_block::CERTIFICATE_REQUEST).map_err(RequestRefusal::Pem)?;
        let Ok(([], request)) = X509CertificationRequest::from_der(&der) else {
            return Err(RequestRefusal::Malformed);
        };
        self.check_content(&request, id)
    }

    fn check_content(
        &self,
        request: &X509CertificationRequest<'_>,
        id: &DeviceId,
    ) -> Result<AcceptedRequest, RequestRefusal> {
        let info = &request.certification_request_info;
        if let Some(attribute) = info.iter_attributes().next() {
            return Err(match attribute.parsed_attribute() {
                ParsedCriAttribute::ExtensionRequest(_) => RequestRefusal::Extensions,
                ParsedCriAttribute::ChallengePassword(_)
                | ParsedCriAttribute::UnsupportedAttribute => RequestRefusal::Attributes,
            });
        }
        if !subject::is_of(&info.subject, id, &self.suffix) {
            return Err(RequestRefusal::Subject {
                found: info.subject.to_string().chars().take(MAX_EXCERPT).collect(),
                expected: subject::text(id, &self.suffix),
            });
        }
        // The size before the signature: the proof by a key that can be broken is none.
        check_key(request)?;
        let algorithm = &request.signature_algorithm.algorithm;
        if !SIGNATURE_ALGORITHMS.contains(algorithm) {
            return Err(RequestRefusal::SignatureAlgorithm);
        }
        request
            .verify_signature()
            .map_err(RequestRefusal::Signature)?;
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| RequestRefusal::KeyType)?;
        Ok(AcceptedRequest {
            id: id.clone(),
            suffix: self.suffix.clone(),
            public_key,
        })
    }
}

impl AcceptedRequest {
    /// For whom, as the title says.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The request, if neither its device nor its key has been revoked.
    pub fn unless_revoked(self, revoked: &Revoked) -> Result<Self, RequestRefusal> {
        if revoked.shuts_out(&self.id) {
            return Err(RequestRefusal::Revoked(self.id));
        }
        let key = Revision::of_bytes(&self.public_key.subject_public_key_info());
        if revoked.has_key(key.as_str()) {
            return Err(RequestRefusal::RevokedKey);
        }
        Ok(self)
    }

    pub(crate) fn suffix(&self) -> &ClientIdSuffix {
        &self.suffix
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

impl RequestRefusal {
    /// What the uploader can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Permission { .. } => {
                "ask the realm's administrator for the permission, then run `tunnel enroll` again"
            }
            Self::Undecided { .. } => "wait until the realm's administrator has decided",
            Self::Revoked(_) => {
                "ask the realm's administrator, who can admit the device again with `tunnel signer readmit`"
            }
            Self::RevokedKey => {
                "remove the device's `.sshkey` and `.x509` files and run `tunnel enroll` again, which makes new keys"
            }
            Self::Realm(_) => "use the registry of the device's own realm",
            Self::Attributes
            | Self::Body(_)
            | Self::Extensions
            | Self::KeyType
            | Self::Malformed
            | Self::Pem(_)
            | Self::Replayed
            | Self::RsaSize { .. }
            | Self::Signature(_)
            | Self::SignatureAlgorithm
            | Self::Subject { .. } => {
                "run `tunnel enroll` again, which makes a request that is right"
            }
        }
    }

    /// The refusal as it is told to the uploader.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(&self.to_string(), self.remedy())
    }
}

fn check_key(request: &X509CertificationRequest<'_>) -> Result<(), RequestRefusal> {
    let key = &request.certification_request_info.subject_pki;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            // The sign octet is no part of the number. One that is negative without it verifies nothing later.
            let modulus = rsa.modulus.strip_prefix(&[0]).unwrap_or(rsa.modulus);
            let leading = modulus
                .first()
                .map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = (modulus.len() * 8).saturating_sub(leading);
            if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                Ok(())
            } else {
                Err(RequestRefusal::RsaSize { bits })
            }
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
                Some(_) | None => Err(RequestRefusal::KeyType),
            }
        }
        Ok(
            PublicKey::DSA(_)
            | PublicKey::GostR3410(_)
            | PublicKey::GostR3410_2012(_)
            | PublicKey::Unknown(_),
        )
        | Err(_) => Err(RequestRefusal::KeyType),
    }
}

const SIGNATURE_ALGORITHMS: [Oid<'static>; 5] = [
    OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
];

/// The largest RSA key, in bits: each TLS handshake of the device costs the broker a verification with it, and `ring`
/// signs with no larger one.
pub const MAX_RSA_BITS: usize = 4096;

/// How much of a stranger's text is repeated in a message, in characters.
const MAX_EXCERPT: usize = 160;

#[cfg(test)]
mod tests {
    use enrollment::{Revision, csr};
    use proptest::prelude::*;
    use rcgen::KeyPair;

    use super::*;

    fn rules() -> Rules {
        Rules {
            realm: "atlas".parse().unwrap(),
            suffix: ClientIdSuffix::default(),
            permission: UploadPermission::everyone_with_write_access(),
        }
    }

    fn entry(title: &str, body: String) -> Entry {
        Entry {
            title: title.parse().unwrap(),
            author: Author::LocalUser { uid: 1000 },
            revision: Revision::of_body(&body),
            body: Ok(body),
            arrived: 0,
        }
    }

    fn request(id: &str) -> String {
        let key = KeyPair::generate().unwrap();
        csr::create(&key, &id.parse().unwrap(), &ClientIdSuffix::default()).unwrap()
    }

    #[test]
    fn a_request_under_its_own_title_is_accepted() {
        let accepted = rules().check(&entry("333.hula.atlas.x509.csr", request("333.hula.atlas")));
        assert_eq!(accepted.unwrap().id().to_string(), "333.hula.atlas");
    }

    #[test]
    fn a_request_under_anothers_title_is_refused() {
        let titles = [
            "334.hula.atlas",
            "333.kiwi.atlas",
            "controller-x.hula.atlas",
        ];
        for title in titles {
            let entry = entry(&format!("{title}.x509.csr"), request("333.hula.atlas"));
            let refusal = rules().check(&entry).unwrap_err();
            assert!(
                matches!(refusal, RequestRefusal::Subject { .. }),
                "{refusal}"
            );
            assert!(
                refusal
                    .to_string()
                    .contains("CN=333.hula.atlas, OU=333, O=hula"),
                "{refusal}"
            );
        }
        let entry = entry("333.hula.delta.x509.csr", request("333.hula.delta"));
        assert!(matches!(
            rules().check(&entry),
            Err(RequestRefusal::Realm(_))
        ));
    }

    #[test]
    fn a_controller_needs_the_permission_for_one() {
        let rules = Rules {
            permission: UploadPermission::controllers_only_from([1].into()),
            ..rules()
        };
        let controller = entry(
            "controller-x.hula.atlas.x509.csr",
            request("controller-x.hula.atlas"),
        );
        let refusal = rules.check(&controller).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "user id 1000 may not request a certificate for `controller-x.hula.atlas`"
        );
        let target = entry("333.hula.atlas.x509.csr", request("333.hula.atlas"));
        assert!(rules.check(&target).is_ok());
    }

    #[test]
    fn a_body_with_a_fault_is_refused_for_it() {
        let mut entry = entry("333.hula.atlas.x509.csr", String::new());
        entry.body = Err(BodyFault::NotAFile);
        let refusal = rules().check(&entry).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the request cannot be used: it is not a regular file"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert!(rules().check(&entry("333.hula.atlas.x509.csr", text)).is_err());
        }

        /// One changed octet anywhere must never panic, and pass only where nothing is signed: in the frame around the
        /// signature, where DER has redundant bits.
        #[test]
        fn no_changed_octet_of_the_signed_part_passes(at in 0usize..1000, to: u8) {
            let pem = request("333.hula.atlas");
            let der = pem_block::single(&pem, pem_block::CERTIFICATE_REQUEST).unwrap();
            let mut changed = der.clone();
            let at = at % der.len();
            changed[at] = to;
            prop_assume!(changed != der);
            let signed = |der| {
                let (_, request) = X509CertificationRequest::from_der(der).ok()?;
                Some((request.certification_request_info.raw, request))
            };
            if let Some((part, request)) = signed(&changed)
                && rules().check_content(&request, &"333.hula.atlas".parse().unwrap()).is_ok()
            {
                prop_assert_eq!(part, signed(&der).unwrap().0);
            }
        }
    }
}
