//! Whose issues count, and who is told that theirs do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

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
    enroll.args(["-v", "--wait", "6s"]);
    let outcome = run(&mut enroll, CEILING);
    assert!(
        outcome.stderr.contains("a certificate is ignored") && outcome.stderr.contains("mallory"),
        "{}",
        outcome.report()
    );
    assert!(
        outcome.stderr.contains("was not signed within 6s"),
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

#[test]
fn a_token_is_told_to_no_host_but_its_own() {
    let stage = Stage::new();
    let device = stage.device("333");
    let enroll = |variables: &[(&str, &str)]| {
        let mut command = stage.enroll_command(&device);
        command
            .env_remove("GH_HOST")
            .env_remove("GITHUB_ENTERPRISE_TOKEN")
            .envs(variables.iter().copied())
            .args(["--wait", "0s"]);
        run(&mut command, CEILING)
    };
    stage.github.take_calls();
    // A realm's file that somebody has sent names a host of theirs.
    let octo = stage.octo.as_str();
    for variables in [
        &[("GITHUB_TOKEN", octo)][..],
        &[("GITHUB_ENTERPRISE_TOKEN", octo)],
        &[
            ("GITHUB_ENTERPRISE_TOKEN", octo),
            ("GH_HOST", "ghe.example.org"),
        ],
    ] {
        let refused = enroll(variables);
        assert_ne!(refused.code, Some(0), "{}", refused.report());
        assert!(
            refused.stderr.contains("there is no token for GitHub"),
            "{}",
            refused.report()
        );
    }
    fs::write(device.dir().join("gh-token.txt"), format!("{octo}\n")).unwrap();
    let file = device.dir().join("gh-token.txt");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let refused = enroll(&[]);
    let said = "is for `github.com`, and the registry is at `127.0.0.1:";
    assert!(refused.stderr.contains(said), "{}", refused.report());
    assert_eq!(stage.github.take_calls().len(), 0, "nobody was asked");
}

#[test]
fn a_revoked_device_has_no_key_left_under_its_name_and_gets_none() {
    let stage = Stage::new();
    let rules = ["octo", "octavia"].map(|login| {
        format!("\n[[upload]]\nwho = \"github:{login}\"\nsystems = [\"*\"]\nwhat = \"all\"\n")
    });
    let trust = stage.world.realm().join("trust.toml");
    fs::write(trust, format!("version = 1\n{}", rules.concat())).unwrap();
    let title = "controller-x.hula.atlas.sshkey.pub";
    let key = |name: &str| {
        let path = stage.world.path(name);
        let mut keygen = std::process::Command::new(e2e::tool("ssh-keygen"));
        keygen
            .args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "controller-x.hula.atlas",
            ])
            .arg("-f")
            .arg(&path);
        run(&mut keygen, CEILING).success();
        fs::read_to_string(path.with_extension("pub")).unwrap()
    };
    let (one, other) = (key("one"), key("other"));
    let older = stage.github.open("octavia", title, &other);
    let newer = stage.github.open("octo", title, &one);
    let revoked = stage
        .world
        .run_signer(&["revoke", "controller-x.hula.atlas"]);
    let said = format!("{title}: withdrawn 2 times");
    assert!(revoked.stdout.contains(&said), "{}", revoked.report());
    for number in [older, newer] {
        assert!(!stage.github.issue(number).unwrap().open, "{number}");
    }
    // The thief has the token too, and brings the key again; the signer takes it away again.
    let again = stage.github.open("octo", title, &one);
    stage.sign_once().success();
    assert!(!stage.github.issue(again).unwrap().open);
    stage
        .world
        .run_signer(&["readmit", "controller-x.hula.atlas"]);
    let again = stage.github.open("octo", title, &one);
    let new = stage.github.open("octo", &title.replace("-x", "-y"), &one);
    stage.sign_once().success();
    assert!(!stage.github.issue(again).unwrap().open, "revoked for ever");
    assert!(stage.github.issue(new).unwrap().open, "another's title");
}
