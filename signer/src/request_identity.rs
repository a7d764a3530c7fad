//! What makes two certificate requests one.

use enrollment::{Revision, Title, pem_block};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::{FromDer as _, Integer, Sequence};

/// The name of a request, for the memory of what was signed: that of the title, and of what only the holder of the key can
/// have made. The same request in other clothes has the same name, or it would get a certificate for each of them:
///
/// - the text around the PEM block, and octets outside the signed part, can be changed by everybody;
/// - an ECDSA signature (r, s) has a twin (r, n − s), which is as good and needs no key: so only r counts.
///
/// A new signature by the key is a new request: its r is drawn anew.
pub(crate) fn of(title: &Title, body: &str) -> Revision {
    let title = title.to_string();
    let der = pem_block::single(body, pem_block::CERTIFICATE_REQUEST);
    let made = der.ok().and_then(|der| made_with_key(&der));
    // What does not parse is not signed either; it is itself.
    let made = made.unwrap_or_else(|| body.as_bytes().to_vec());
    Revision::of_bytes(&[title.as_bytes(), b"\n", &made].concat())
}

/// The signed part, and what of the signature cannot be made of another.
fn made_with_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    let signed = request.certification_request_info.raw;
    let signature = request.signature_value.data.as_ref();
    // An RSA signature is one number below the modulus, and has no twin.
    let made = r_of(signature).unwrap_or_else(|| signature.to_vec());
    Some([signed, b"\n", &made].concat())
}

/// The first of the two numbers of an ECDSA signature, without leading zeros.
fn r_of(signature: &[u8]) -> Option<Vec<u8>> {
    let (rest, sequence) = Sequence::from_der(signature).ok()?;
    let (after, r) = Integer::from_der(&sequence.content).ok()?;
    let (end, _) = Integer::from_der(after).ok()?;
    let number = r.as_ref();
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    (rest.is_empty() && end.is_empty()).then(|| number.get(zeros..).map(<[u8]>::to_vec))?
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    fn title(text: &str) -> Title {
        text.parse().unwrap()
    }

    fn request(key: &KeyPair) -> String {
        let suffix = protocol::ClientIdSuffix::default();
        enrollment::csr::create(key, &"333.hula.atlas".parse().unwrap(), &suffix).unwrap()
    }

    #[test]
    fn a_request_is_itself_under_its_title_and_a_new_signature_is_a_new_one() {
        let (one, other) = (
            title("333.hula.atlas.x509.csr"),
            title("334.hula.atlas.x509.csr"),
        );
        let key = KeyPair::generate().unwrap();
        let (first, second) = (request(&key), request(&key));
        let dressed = format!("\n{}\r\n\r\n", first.trim().replace('\n', "\r\n"));
        assert_eq!(of(&one, &first), of(&one, &dressed));
        assert_ne!(of(&one, &first), of(&other, &first));
        assert_ne!(of(&one, &first), of(&one, &second));
        assert_ne!(of(&one, "a"), of(&one, "b"));
    }

    #[test]
    fn the_second_number_of_a_signature_and_its_padding_do_not_count() {
        let signature = |r: &[u8], s: &[u8]| {
            let number = |n: &[u8]| [&[2, u8::try_from(n.len()).unwrap()], n].concat();
            let both = [number(r), number(s)].concat();
            [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
        };
        assert_eq!(r_of(&signature(&[7, 8], &[1])), Some(vec![7, 8]));
        assert_eq!(r_of(&signature(&[0, 200, 8], &[2])), Some(vec![200, 8]));
        let mut longer = signature(&[7], &[1]);
        longer.push(0);
        for none in [&longer[..], &[], &[0x30, 0], &[4, 1, 1]] {
            assert_eq!(r_of(none), None, "{none:?}");
        }
    }
}
