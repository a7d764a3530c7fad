//! Whose issues count, and who is told that theirs do not.

use std::fs;

use e2e::{CEILING, run};

use super::github_stage::{BOT, Stage};

#[test]
fn a_body_that_another_edited_is_refused_once() {
    let stage = Stage::new();
    let text = stage.request("333");
    let number = stage.github.open("octo", "333.hula.atlas.x509.csr", &text);
    stage.github.edit(number, "helpful-admin", &text);
    for _ in 0..3 {
        stage.sign_once().success();
    }
    let issue = stage.github.issue(number).unwrap();
    assert!(issue.open);
    assert_eq!(issue.comments.len(), 1, "{:?}", issue.comments);
    let comment = &issue.comments[0];
    assert_eq!(comment.author, BOT);
    assert!(
        comment.body.contains("`helpful-admin` has edited it"),
        "{}",
        comment.body
    );
    assert!(stage.certificates("333").is_empty());
    // What its author edits is served, and so is a fenced body without the last line end.
    stage.github.edit(
        number,
        "octo",
        &format!("```\r\n{}\r\n```", text.trim_end()),
    );
    stage.sign_once().success();
    assert_eq!(stage.certificates("333").len(), 1);
    assert!(!stage.github.issue(number).unwrap().open);
}

#[test]
fn the_newest_issue_of_a_permitted_author_counts() {
    let stage = Stage::new();
    let title = "333.hula.atlas.x509.csr";
    let (first, second) = (stage.request("333"), stage.request("333"));
    assert_ne!(first, second);
    let old = stage.github.open("octo", title, &first);
    let new = stage.github.open("octo", title, &second);
    let strange = stage.github.open("mallory", title, &stage.request("333"));
    stage.github.open_pull_request("mallory", title);
    let outcome = stage.sign_once().success();
    assert_eq!(
        outcome.stdout.matches("signed, serial").count(),
        1,
        "{}",
        outcome.report()
    );
    assert_eq!(stage.certificates("333").len(), 1);
    for (number, open) in [(old, false), (new, false), (strange, true)] {
        let issue = stage.github.issue(number).unwrap();
        assert_eq!(issue.open, open, "{number}");
        assert_eq!(
            issue.comments.len(),
            usize::from(number == strange),
            "{number}"
        );
    }
    stage.sign_once().success();
    assert_eq!(stage.github.issues("333.hula.atlas.x509.cert").len(), 1);
    assert_eq!(stage.github.issue(strange).unwrap().comments.len(), 1);
}

#[test]
fn certificates_and_refusals_of_strangers_are_ignored() {
    let stage = Stage::new();
    let device = stage.device("333");
    stage.hand_in(&device);
    let request = stage.github.issues("333.hula.atlas.x509.csr")[0].number;
    // What the bot would say, said by a stranger.
    let trust = stage.world.realm().join("trust.toml");
    let rules = fs::read_to_string(&trust).unwrap();
    fs::write(&trust, "version = 1\n").unwrap();
    stage.sign_once();
    let refusal = stage.github.issue(request).unwrap().comments[0].clone();
    stage.github.remove_comments(request);
    stage.github.comment(request, "mallory", &refusal.body);
    fs::write(&trust, rules).unwrap();
    // A real certificate of the realm, though for another device; a stranger hands it in.
    stage.github.open(
        "mallory",
        "333.hula.atlas.x509.cert",
        &fs::read_to_string(stage.world.realm().join("broker/server.cert")).unwrap(),
    );
    let mut enroll = stage.enroll_command(&device);
    enroll.args(["-v", "--wait", "3s"]);
    let outcome = run(&mut enroll, CEILING);
    assert!(
        outcome.stderr.contains("a certificate is ignored") && outcome.stderr.contains("mallory"),
        "{}",
        outcome.report()
    );
    assert!(
        outcome.stderr.contains("was not signed within 3s"),
        "{}",
        outcome.report()
    );
    assert!(!device.certificate().exists());
    assert_eq!(stage.github.issues("333.hula.atlas.x509.csr").len(), 1);
}

#[test]
fn a_refusal_reaches_the_device() {
    let stage = Stage::new();
    fs::write(stage.world.realm().join("trust.toml"), "version = 1\n").unwrap();
    let device = stage.device("controller-a");
    stage.hand_in(&device);
    stage.sign_once();
    let request = stage.github.issues("controller-a.hula.atlas.x509.csr")[0].clone();
    assert_eq!(request.comments.len(), 1, "{request:?}");
    assert!(request.comments[0].body.contains("what to do: "));
    // The next run hands in anew, and is told what the bot says.
    let mut signer = stage.world.signer();
    let mut enroll = stage.enroll_command(&device);
    enroll.args(["--wait", "60s"]);
    let outcome = run(&mut enroll, CEILING);
    assert!(
        outcome.stderr.contains("the signer refused"),
        "{}",
        outcome.report()
    );
    assert_eq!(outcome.lines("hint").len(), 1, "{}", outcome.report());
    assert!(signer.has_ended().is_none());
}
