//! One PEM block and nothing else.

use x509_parser::pem::parse_x509_pem;

/// Why a text is not exactly one PEM block of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemBlockError {
    /// It does not begin with the wanted line.
    #[error("it does not begin with `-----BEGIN {label}-----`")]
    Begin {
        /// The wanted kind.
        label: &'static str,
    },
    /// There is something behind the first block.
    #[error("there is more in it than one block")]
    Several,
    /// The end line is missing, or what is before it is not base64.
    #[error("the block is damaged")]
    Damaged,
}

/// The content of a text that is one PEM block with this label (RFC 7468), with nothing but space around it. The
/// caller has capped its length.
///
/// Text around a block is refused although the RFC allows it: two readers could pick different blocks.
pub fn single(text: &str, label: &'static str) -> Result<Vec<u8>, PemBlockError> {
    let text = text.trim();
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    if text.lines().next().map(str::trim_end) != Some(begin.as_str()) {
        return Err(PemBlockError::Begin { label });
    }
    if text.matches("-----BEGIN").count() > 1 {
        return Err(PemBlockError::Several);
    }
    match text.find("-----END") {
        Some(at) if text.get(at..) == Some(end.as_str()) => {}
        Some(at) if text.get(at..).is_some_and(|rest| rest.starts_with(&end)) => {
            return Err(PemBlockError::Several);
        }
        Some(_) | None => return Err(PemBlockError::Damaged),
    }
    parse_x509_pem(text.as_bytes())
        .map(|(_, block)| block.contents)
        .map_err(|_| PemBlockError::Damaged)
}

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";

/// The label of a certificate request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";

/// The label of a certificate revocation list.
pub const REVOCATION_LIST: &str = "X509 CRL";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn one_block_with_any_line_ends_is_read() {
        for text in [
            BLOCK.to_owned(),
            BLOCK.replace('\n', "\r\n"),
            format!("\n {BLOCK}\n\n"),
            BLOCK.trim().to_owned(),
        ] {
            assert_eq!(single(&text, CERTIFICATE), Ok(vec![1, 2, 3]), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let begin = Err(PemBlockError::Begin { label: CERTIFICATE });
        let cases = [
            (String::new(), begin.clone()),
            (format!("see:\n{BLOCK}"), begin.clone()),
            (BLOCK.replace("CERTIFICATE", "PRIVATE KEY"), begin),
            (format!("{BLOCK}{BLOCK}"), Err(PemBlockError::Several)),
            (format!("{BLOCK}more"), Err(PemBlockError::Several)),
            (BLOCK.replace("AQID", "A*ID"), Err(PemBlockError::Damaged)),
            (
                BLOCK.replace("-----END CERTIFICATE-----", ""),
                Err(PemBlockError::Damaged),
            ),
            (
                BLOCK.replace("END CERTIFICATE", "END OTHER"),
                Err(PemBlockError::Damaged),
            ),
        ];
        for (text, result) in cases {
            assert_eq!(single(&text, CERTIFICATE), result, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), framed: bool) {
            let noise = String::from_utf8_lossy(&bytes);
            let text = if framed { BLOCK.replace("AQID", &noise) } else { noise.into_owned() };
            let _ = single(&text, CERTIFICATE);
        }
    }
}
