//! What strangers, and other realms, can do in a repository in which everybody can open an issue.

use std::fs;

use e2e::{CEILING, run, wait_until};

use super::github_stage::{BOT, Stage, key};

#[test]
fn many_strangers_keep_nobody_waiting() {
    let stage = Stage::new();
    let strangers: Vec<u64> = (0..12)
        .map(|index| {
            let title = format!("a{index:02}.hula.atlas.x509.csr");
            stage.github.open("mallory", &title, "give me one")
        })
        .collect();
    let title = "z.hula.atlas.x509.csr";
    stage.github.open("octo", title, &stage.request("z"));
    stage.github.take_calls();
    stage.sign_once().success();
    let calls = stage.github.take_calls();
    let writes: Vec<&str> = calls
        .iter()
        .filter(|call| call.method == "POST" && !call.path.ends_with("graphql"))
        .map(|call| call.path.as_str())
        .collect();
    assert!(
        writes[0].ends_with("/issues"),
        "the certificate: {writes:?}"
    );
    assert_eq!(writes.len(), 6, "and five refusals: {writes:?}");
    assert_eq!(stage.certificates("z").len(), 1);
    // The others have their turn later.
    stage.sign_once().success();
    stage.sign_once().success();
    for number in strangers {
        let comments = stage.github.issue(number).unwrap().comments;
        assert_eq!(comments.len(), 1, "{number}");
    }
}

#[test]
fn a_request_of_another_realm_is_left_to_its_signer() {
    let stage = Stage::new();
    let foreign = ["7.hula.other.x509.csr", "7.hula.other.sshkey.pub"]
        .map(|title| stage.github.open("octo", title, &stage.request("7")));
    let signed = stage.sign_once().success();
    assert_eq!(signed.stdout, "", "{}", signed.report());
    for number in foreign {
        let issue = stage.github.issue(number).unwrap();
        assert!(issue.open && issue.comments.is_empty(), "{issue:?}");
    }
}

#[test]
fn a_strangers_key_takes_no_name() {
    let stage = Stage::new();
    let device = stage.device("333");
    let title = "333.hula.atlas.sshkey.pub";
    let theirs = stage.github.open("mallory", title, &key("333.hula.atlas"));
    let _signer = stage.world.signer();
    let mut enroll = stage.enroll_command(&device);
    enroll.args(["--no-proof", "-v"]);
    let outcome = run(&mut enroll, CEILING).success();
    assert!(
        outcome
            .stderr
            .contains("somebody else's key lies under this name too"),
        "{}",
        outcome.report()
    );
    assert!(device.certificate().exists());
    // Mallory is told why theirs does not count.
    wait_until("the stranger to be told", CEILING, || {
        let issue = stage.github.issue(theirs).unwrap();
        let told = issue.comments.first().map(|comment| comment.body.clone());
        let told = told.ok_or("not yet")?;
        assert!(
            told.contains("may not upload a key for `333.hula.atlas`"),
            "{told}"
        );
        Ok::<_, String>(())
    });
    // Where somebody has a certificate, the name is theirs.
    let other = e2e::Device::new(&stage.world.path("others"), "hula", "333");
    let mut enroll = stage.enroll_command(&other);
    enroll.env("GITHUB_ENTERPRISE_TOKEN", stage.github.token("lani", false));
    let outcome = run(&mut enroll, CEILING);
    assert!(
        outcome.stderr.contains("holds the key of another computer"),
        "{}",
        outcome.report()
    );
}

#[test]
fn a_key_that_does_not_count_is_refused_on_its_issue_once() {
    let stage = Stage::new();
    let bodies = [
        (
            "1",
            format!("{}{}", key("1.hula.atlas"), key("1.hula.atlas")),
        ),
        ("2", key("3.hula.atlas")),
        ("4", "no key at all".to_owned()),
    ];
    let issues = bodies.map(|(name, body)| {
        let title = format!("{name}.hula.atlas.sshkey.pub");
        stage.github.open("octo", &title, &body)
    });
    let good = key("5.hula.atlas");
    let good = stage.github.open("octo", "5.hula.atlas.sshkey.pub", &good);
    for _ in 0..2 {
        stage.sign_once().success();
    }
    let mut reasons = Vec::new();
    for number in issues {
        let issue = stage.github.issue(number).unwrap();
        assert_eq!(issue.comments.len(), 1, "{issue:?}");
        assert!(issue.comments[0].body.contains("what to do: "));
        reasons.push(issue.comments[0].body.lines().nth(3).unwrap().to_owned());
    }
    reasons.sort();
    reasons.dedup();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(stage.github.issue(good).unwrap().comments.is_empty());
}

#[test]
fn who_is_none_of_the_signers_does_not_sign() {
    let stage = Stage::new();
    let file = stage.world.realm().join("realm.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(BOT, "somebody-else")).unwrap();
    let request = stage.request("333");
    stage
        .github
        .open("octo", "333.hula.atlas.x509.csr", &request);
    for words in [
        &["signer", "run", "--once"][..],
        &["signer", "run"],
        &["serve"],
    ] {
        let mut command = stage.world.tunnel();
        command.args(words).arg("--dir").arg(stage.world.realm());
        let refused = run(&mut command, CEILING);
        assert_eq!(refused.code, Some(78), "{}", refused.report());
        assert_eq!(
            refused.lines("error"),
            ["`atlas-bot`, whose token this is, is none of the realm's signers (somebody-else)"]
        );
        assert!(refused.lines("hint")[0].starts_with("put `signers = [\"atlas-bot\"]` into"));
    }
    assert!(stage.certificates("333").is_empty());
}

#[test]
fn the_signers_login_is_named_when_the_realm_is_made() {
    let stage = Stage::new();
    let made = stage.world.path("made");
    let mut init = stage.world.tunnel();
    init.args(["realm", "init", "atlas", "--proxy", "proxy.example.org"])
        .args(["--github", "octo/tunnels", "--signer", "Atlas-Bot", "--dir"])
        .arg(&made);
    run(&mut init, CEILING).success();
    let text = fs::read_to_string(made.join("realm.toml")).unwrap();
    assert!(text.contains("signers = [\"atlas-bot\"]"), "{text}");
}
