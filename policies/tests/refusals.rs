//! Every way in which a document is refused, with what is said about it.

use std::error::Error;

use policies::{MAX_DOCUMENT, Policy, RoleDocument, parse};
use proptest::prelude::*;

/// The error and its causes, from the outside in.
#[expect(clippy::unwrap_used, reason = "only refused documents are asked about")]
fn refusal(document: &str) -> String {
    let error = parse(document.as_bytes()).unwrap_err();
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        chain = format!("{chain}: {source}");
        cause = source.source();
    }
    chain
}

fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

/// The statement is refused for this reason, as the second of its document.
fn assert_second(statement: &str, wanted: &str) {
    let chain = refusal(&document(&format!("{GOOD},{statement}")));
    assert_eq!(
        chain,
        format!("statement #2 of the policy document is refused: {wanted}")
    );
}

const GOOD: &str =
    r#"{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:REGION:ACCOUNT:topic/a"}"#;

#[test]
fn what_is_wrong_with_the_whole_is_said() {
    let cases = [
        (
            String::new(),
            "the policy document is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        ("[]".to_owned(), "a policy document is a JSON object"),
        ("3".to_owned(), "a policy document is a JSON object"),
        (
            "{}".to_owned(),
            "the policy document's `Version` is not `2012-10-17`",
        ),
        (
            document(GOOD).replace("2012-10-17", "2008-10-17"),
            "the policy document's `Version` is not `2012-10-17`",
        ),
        (document(""), "the policy document has no statement"),
        (
            r#"{"Version":"2012-10-17"}"#.to_owned(),
            "the policy document has no statement",
        ),
        (
            document(GOOD).replace("Version", "version"),
            "`version` is not a key of a policy document",
        ),
        (
            document(GOOD).replacen('{', r#"{"Version":"2012-10-17","#, 1),
            "`Version` stands twice in the policy document",
        ),
        (
            document(&format!("{0},{0}", GOOD.replacen('{', r#"{"Sid":"A","#, 1))),
            "two statements have the `Sid` `A`",
        ),
        (
            " ".repeat(MAX_DOCUMENT + 1),
            "a policy document of 8193 bytes is longer than 8192",
        ),
    ];
    for (document, wanted) in cases {
        assert_eq!(refusal(&document), wanted);
    }
    assert!(refusal(&format!("{}x", document(GOOD))).contains("trailing characters"));
    assert!(refusal(&"[".repeat(MAX_DOCUMENT)).contains("recursion limit"));
}

#[test]
fn what_is_wrong_with_a_statement_is_said_and_which_one() {
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    let cases = [
        ("3".to_owned(), "a statement is a JSON object"),
        (with(r#""Effect":"Allow","#, ""), "it has no `Effect`"),
        (with(r#""Action":"iot:Publish","#, ""), "it has no `Action`"),
        (
            r#"{"Effect":"Allow","Action":"iot:Connect"}"#.to_owned(),
            "it has no `Resource`",
        ),
        (
            with("{", r#"{"Principal":"*","#),
            "`Principal` is not a key of a statement",
        ),
        (
            with("{", r#"{"effect":"Deny","#),
            "`effect` is not a key of a statement",
        ),
        (
            with("{", r#"{"Effect":"Deny","#),
            "`Effect` stands there twice",
        ),
        (
            with("{", r#"{"Condition":{},"#),
            "conditions are not supported",
        ),
        (
            with("Action", "NotAction"),
            "`NotAction` is not supported: name what is meant instead",
        ),
        (
            with("Resource", "NotResource"),
            "`NotResource` is not supported: name what is meant instead",
        ),
        (
            with("{", r#"{"Sid":"a b","#),
            "a `Sid` is 1 to 64 letters and digits",
        ),
        (
            with("{", r#"{"Sid":7,"#),
            "a `Sid` is 1 to 64 letters and digits",
        ),
        (with("Allow", "allow"), "`Effect` is `Allow` or `Deny`"),
        (with(r#""Allow""#, "true"), "`Effect` is `Allow` or `Deny`"),
        (
            with(r#""iot:Publish""#, "null"),
            "`Action` is a text or a list of texts",
        ),
        (
            with(r#""iot:Publish""#, r#"["iot:Publish",["iot:Receive"]]"#),
            "`Action` is a text or a list of texts",
        ),
        (with(r#""iot:Publish""#, "[]"), "`Action` is empty"),
        (
            with("iot:Publish", "iot:*"),
            "`iot:*` is not a known action",
        ),
        (
            with("iot:Publish", "iot:publish"),
            "`iot:publish` is not a known action",
        ),
        (
            with("iot:Publish", "iot:UpdateThingShadow"),
            "`iot:UpdateThingShadow` is not a known action",
        ),
    ];
    for (statement, wanted) in cases {
        assert_second(&statement, wanted);
    }
    let named = with("{", r#"{"Sid":"Third","Condition":{},"#);
    assert!(refusal(&document(&format!("{GOOD},{named}"))).starts_with("statement Third of"));
}

#[test]
fn what_is_wrong_with_a_resource_is_said_and_which_one() {
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    let cases = [
        (
            with("arn:aws:iot:REGION:ACCOUNT:topic/a", "*"),
            "resource `*` is refused: it is not `arn:PARTITION:iot:REGION:ACCOUNT:KIND/NAME`",
        ),
        (
            with("topic/a", "topic/${aws:SourceIp}"),
            "resource `arn:aws:iot:REGION:ACCOUNT:topic/${aws:SourceIp}` is refused: `${aws:SourceIp}` is not a known \
             variable",
        ),
        (
            with("topic/a", "topicfilter/a"),
            "`iot:Publish` is decided on a `topic`, not on `arn:aws:iot:REGION:ACCOUNT:topicfilter/a`",
        ),
        (
            with("iot:Publish", "iot:Connect"),
            "`iot:Connect` is decided on a `client`, not on `arn:aws:iot:REGION:ACCOUNT:topic/a`",
        ),
        (
            with(r#""iot:Publish""#, r#"["iot:Publish","iot:Subscribe"]"#),
            "`iot:Subscribe` is decided on a `topicfilter`, not on `arn:aws:iot:REGION:ACCOUNT:topic/a`",
        ),
        (
            with("Allow", "Deny")
                .replace("topic/a", "topic/${iot:Certificate.Subject.Organization}"),
            "a client may be without `iot:Certificate.Subject.Organization`, and then \
             `arn:aws:iot:REGION:ACCOUNT:topic/${iot:Certificate.Subject.Organization}` would deny nothing",
        ),
    ];
    for (statement, wanted) in cases {
        assert_second(&statement, wanted);
    }
}

#[test]
fn both_forms_of_lists_are_taken() {
    let single = document(GOOD);
    let lists = single
        .replace(r#""iot:Publish""#, r#"["iot:Publish","iot:Publish"]"#)
        .replace(
            r#""arn:aws:iot:REGION:ACCOUNT:topic/a""#,
            r#"["arn:aws:iot:REGION:ACCOUNT:topic/a"]"#,
        );
    let bare = single.replace(['[', ']'], "");
    let parsed = parse(single.as_bytes()).unwrap();
    assert_eq!(parse(lists.as_bytes()).unwrap(), parsed);
    assert_eq!(parse(bare.as_bytes()).unwrap(), parsed);
}

#[test]
fn a_deny_may_speak_of_what_every_client_has() {
    let deny = GOOD
        .replace("Allow", "Deny")
        .replace("topic/a", "topic/${iot:ClientId}/*");
    assert!(parse(document(&deny).as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_change_to_a_good_document_panics(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        for role in RoleDocument::ALL {
            let mut bytes = role.json().as_bytes().to_vec();
            for (index, byte) in &edits {
                let place = index.index(bytes.len());
                bytes[place] = *byte;
            }
            let _ = parse(&bytes).map(|policy: Policy| policy.bind("atlas"));
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
