//! An answer of AWS (restJson1): JSON, or a kind of refusal with a message.

use serde_json::Value;

use super::AwsError;

/// The JSON of an answer, or the refusal that it is.
pub(super) fn read(
    action: &'static str,
    status: u16,
    error_type: Option<&str>,
    body: &[u8],
) -> Result<Value, AwsError> {
    let json: Option<Value> = if body.is_empty() {
        Some(Value::Null)
    } else {
        serde_json::from_slice(body).ok()
    };
    if (200..300).contains(&status) {
        return json.ok_or(AwsError::Answer { action });
    }
    let field = |names: &[&str]| {
        let json = json.as_ref()?;
        names.iter().find_map(|name| json.get(name)?.as_str())
    };
    let code = error_type
        .or_else(|| field(&["__type", "code"]))
        .unwrap_or_default();
    Err(AwsError::Refused {
        action,
        status,
        code: excerpt(bare(code)),
        message: excerpt(
            field(&["message", "Message", "errorMessage"]).unwrap_or("no reason given"),
        ),
    })
}

/// Without a namespace before and an address behind it.
fn bare(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default()
}

/// One line of readable length: it goes into messages and logs.
fn excerpt(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_EXCERPT)
        .collect()
}

/// The longest part of somebody else's text in a message, in characters.
const MAX_EXCERPT: usize = 300;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code_and_message(error: &AwsError) -> (&str, &str) {
        let AwsError::Refused { code, message, .. } = error else {
            panic!("{error}")
        };
        (code, message)
    }

    #[test]
    fn a_refusal_is_read_wherever_its_kind_stands() {
        let body = br#"{"message":"no such policy"}"#;
        let kind = Some("ResourceNotFoundException:http://internal.amazon.com/x/");
        let error = read("AttachPolicy", 404, kind, body).unwrap_err();
        assert_eq!(
            code_and_message(&error),
            ("ResourceNotFoundException", "no such policy")
        );
        let body = br#"{"__type":"com.amazon#ThrottlingException","Message":"slow\ndown"}"#;
        let error = read("AttachPolicy", 400, None, body).unwrap_err();
        assert_eq!(
            code_and_message(&error),
            ("ThrottlingException", "slow down")
        );
        assert!(error.is_throttled());
    }

    #[test]
    fn an_empty_answer_is_one_and_half_an_answer_is_none() {
        assert_eq!(read("AttachPolicy", 200, None, b"").unwrap(), Value::Null);
        assert!(matches!(
            read("ListCertificates", 200, None, b"{\"certificates\":["),
            Err(AwsError::Answer { .. })
        ));
        let error = read("AttachPolicy", 502, None, b"<html>").unwrap_err();
        assert!(error.is_passing(), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(status: u16, kind: Option<String>, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read("ListCertificates", status, kind.as_deref(), &body);
        }
    }
}
