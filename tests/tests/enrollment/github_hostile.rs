//! Hostile uploads as issues: each is refused with its own comment, once, and none keeps an honest one from being served.

use e2e::CEILING;
use e2e::run;

use super::github_stage::{BOT, Stage};
use super::hostile::{P256, request, subject, with_wrong_signature};

/// What is done to an issue before the bot sees it.
type Deed = fn(&Stage, u64);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_hostile_issue_is_refused_with_its_own_comment() {
    let stage = Stage::new();
    let world = &stage.world;
    let own = |device: &str| request(world, &subject(device, "hula"), P256);
    let nothing: Deed = |_, _| {};
    let table: Vec<(&str, &str, String, Deed, &str)> = vec![
        (
            "octo",
            "2.hula.atlas.x509.csr",
            request(world, &subject("2", "kiwi"), P256),
            nothing,
            "where \"CN=2.hula.atlas, OU=2, O=hula\" is the only one allowed",
        ),
        (
            "octo",
            "3.hula.atlas.x509.csr",
            request(world, &subject("controller-3", "hula"), P256),
            nothing,
            "the subject is \"CN=controller-3.hula.atlas",
        ),
        (
            "octo",
            "x.evil.hula.atlas.x509.csr",
            own("1"),
            nothing,
            "the name `x.evil.hula.atlas.x509.csr` is no title",
        ),
        (
            "octo",
            "4.hula/../x.atlas.x509.csr",
            own("1"),
            nothing,
            "the name `4.hula/../x.atlas.x509.csr` is no title",
        ),
        (
            "octo",
            "5.hula.atlas.x509.csr",
            format!("{}{}", own("5"), own("5")),
            nothing,
            "there is more in it than one block",
        ),
        (
            "octo",
            "6.hula.atlas.x509.csr",
            request(world, &subject("6", "hula"), &["rsa:1024"]),
            nothing,
            "an RSA key of 1024 bits is not within",
        ),
        (
            "octo",
            "7.hula.atlas.x509.csr",
            with_wrong_signature(&own("7")),
            nothing,
            "the signature of the request does not verify",
        ),
        (
            "octo",
            "8.hula.atlas.x509.csr",
            "x".repeat(1024 * 1024),
            nothing,
            "it is longer than 8192 bytes",
        ),
        (
            "octo",
            "9.hula.atlas.x509.csr",
            own("9"),
            |stage, number| {
                let body = stage.github.issue(number).unwrap().body;
                stage.github.edit(number, "helpful-admin", &body);
            },
            "GitHub user `helpful-admin` has edited it",
        ),
        (
            "mallory",
            "11.hula.atlas.x509.csr",
            own("11"),
            nothing,
            "GitHub user `mallory` may not request a certificate for `11.hula.atlas`",
        ),
    ];
    let numbers: Vec<u64> = table
        .iter()
        .map(|(author, title, body, deed, _)| {
            let number = stage.github.open(author, title, body);
            deed(&stage, number);
            number
        })
        .collect();
    // Nobody's business: it does not even look like a title.
    let chat = stage.github.open("mallory", "How do I enroll?", "hello");
    // A stranger's certificate is handed out to nobody, and closes nothing.
    let foreign = stage
        .github
        .open("mallory", "1.hula.atlas.x509.cert", "a certificate");
    let old = own("1");
    let honest = stage.github.open("octo", "1.hula.atlas.x509.csr", &old);
    let outcome = stage.sign_once().success();
    assert!(
        outcome.stdout.contains("1.hula.atlas.x509.csr: signed"),
        "{}",
        outcome.report()
    );
    let newer = stage
        .github
        .open("octo", "1.hula.atlas.x509.csr", &own("1"));
    stage.sign_once().success();
    let replayed = stage.github.open("octo", "1.hula.atlas.x509.csr", &old);
    for _ in 0..3 {
        stage.sign_once().success();
    }
    let mut reasons = Vec::new();
    let told = numbers.into_iter().zip(table.iter().map(|row| row.4));
    for (number, message) in told.chain([(replayed, "the request has been answered before")]) {
        let issue = stage.github.issue(number).unwrap();
        assert!(issue.open, "{}", issue.title);
        assert_eq!(
            issue.comments.len(),
            1,
            "{}: {:?}",
            issue.title,
            issue.comments
        );
        let comment = &issue.comments[0];
        assert_eq!(comment.author, BOT);
        assert!(
            comment.body.contains(message),
            "{message}: {}",
            comment.body
        );
        assert!(comment.body.contains("what to do: "), "{}", comment.body);
        let reason = comment
            .body
            .lines()
            .find(|line| line.starts_with("reason: "));
        reasons.push(reason.unwrap().to_owned());
    }
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), table.len() + 1, "{reasons:#?}");
    for (number, open) in [
        (chat, true),
        (foreign, true),
        (honest, false),
        (newer, false),
    ] {
        let issue = stage.github.issue(number).unwrap();
        assert_eq!(
            (issue.open, issue.comments.len()),
            (open, 0),
            "{}",
            issue.title
        );
    }
    // The one of the newer request is the one that is open.
    let certificates = stage.certificates("1");
    let by_the_bot = certificates.iter().filter(|issue| issue.author == BOT);
    assert_eq!(by_the_bot.count(), 1, "{certificates:?}");
    // What is called otherwise is served.
    let misnamed = stage.github.issues("x.evil.hula.atlas.x509.csr")[0].number;
    stage.github.rename(misnamed, "12.hula.atlas.x509.csr");
    stage.github.edit(misnamed, "octo", &own("12"));
    let outcome = run(&mut stage.signer_once(), CEILING).success();
    assert!(
        outcome.stdout.contains("12.hula.atlas.x509.csr: signed"),
        "{}",
        outcome.report()
    );
}
