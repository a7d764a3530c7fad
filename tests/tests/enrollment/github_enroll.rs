//! Devices and controllers enroll through issues.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::{CEILING, run, wait_until};

use super::github_stage::{BOT, Stage, command_line};

#[test]
fn a_device_and_a_controller_enroll_and_meet() {
    let stage = Stage::new();
    let serve = stage.world.serve();
    let (device, controller) = (stage.device("333"), stage.device("controller-a"));
    let mut said = String::new();
    for one in [&device, &controller] {
        let mut enroll = stage.enroll_command(one);
        enroll.args(["-vv", "--wait", "60s"]);
        let outcome = run(&mut enroll, CEILING).success();
        said.push_str(&outcome.stdout);
        said.push_str(&outcome.stderr);
        let id = one.id();
        let authors = |suffix: &str| -> Vec<(String, bool)> {
            let issues = stage.github.issues(&format!("{id}{suffix}"));
            let open = issues.into_iter().map(|issue| (issue.author, issue.open));
            open.collect()
        };
        assert_eq!(authors(".sshkey.pub"), [("octo".to_owned(), true)]);
        assert_eq!(authors(".x509.cert"), [(BOT.to_owned(), true)]);
        // Closed once the certificate is there.
        wait_until("the request to be closed", CEILING, || {
            let found = authors(".x509.csr");
            let closed = found == [("octo".to_owned(), false)];
            closed.then_some(()).ok_or(format!("{found:?}"))
        });
        // The same text in the issue and in the file.
        let issue = &stage.certificates(one.device())[0];
        assert_eq!(issue.body, fs::read_to_string(one.certificate()).unwrap());
    }
    let _agent = stage.world.agent(&device);
    stage.world.wait_for_presence(&controller, &device, true);
    for secret in [&stage.octo, &stage.bot] {
        assert!(!stage.logs().contains(secret.as_str()), "in a log");
        assert!(!said.contains(secret.as_str()), "on the terminal");
        assert!(!command_line(&serve).contains(secret.as_str()), "in ps");
    }
}

#[test]
fn the_registry_is_listed_shown_and_cleared() {
    let stage = Stage::new();
    let key = stage.github.open(
        "octo",
        "333.hula.atlas.sshkey.pub",
        "```\nssh-ed25519 AAAA 333.hula.atlas\r\n```",
    );
    stage.github.open("octo", "How do I use this?", "hello");
    stage
        .github
        .open_pull_request("octo", "334.hula.atlas.sshkey.pub");
    let request = stage
        .github
        .open("Mallory", "333.hula.atlas.x509.csr", "text");
    let listed = stage.registry(&["list"]).success();
    assert_eq!(
        listed.stdout,
        format!(
            "{request} 333.hula.atlas.x509.csr mallory OPEN\n{key} 333.hula.atlas.sshkey.pub octo OPEN\n"
        )
    );
    let listed = stage.registry(&["list", ".sshkey.pub", "--json"]).success();
    let entries: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(entries.as_array().unwrap().len(), 1);
    assert_eq!(
        (entries[0]["number"].as_u64(), entries[0]["login"].as_str()),
        (Some(key), Some("octo"))
    );
    let shown = stage
        .registry(&["show", "333.hula.atlas.sshkey.pub"])
        .success();
    assert_eq!(shown.stdout, "ssh-ed25519 AAAA 333.hula.atlas\n");
    stage.registry(&["delete", &key.to_string()]).success();
    assert!(!stage.github.issue(key).unwrap().open);
    let gone = stage.registry(&["delete", &key.to_string()]);
    assert_eq!(gone.code, Some(1), "{}", gone.report());
    let odd = stage.registry(&["delete", "333.hula.atlas.x509.csr"]);
    assert_eq!(odd.code, Some(64), "{}", odd.report());
}

#[test]
fn a_token_is_kept_only_if_github_knows_it() {
    let stage = Stage::new();
    let file = stage.world.realm().join("gh-token.txt");
    fs::remove_file(&file).unwrap();
    let missing = stage.registry(&["list"]);
    assert_eq!(missing.code, Some(78), "{}", missing.report());
    assert_eq!(missing.lines("error"), ["there is no token for GitHub"]);
    let login = |token: &str| {
        let typed = stage.world.path("typed");
        fs::write(&typed, format!("{token}\n")).unwrap();
        let mut command = stage.world.tunnel();
        command
            .args(["registry", "login", "--dir"])
            .arg(stage.world.realm());
        stage.world.run_from(&mut command, &typed, CEILING)
    };
    let refused = login("ghp_nobody");
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert_eq!(refused.lines("caused by"), ["the token is not valid"]);
    assert!(!file.exists());
    let done = login(&stage.bot).success();
    assert!(
        done.stderr.contains(&format!("GitHub login {BOT}")),
        "{}",
        done.report()
    );
    assert!(!done.stderr.contains(&stage.bot), "the token is printed");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    stage.registry(&["list"]).success();
    // Readable by others: refused, and not used.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = stage.registry(&["list"]);
    assert_eq!(open.code, Some(78), "{}", open.report());
}
