//! Files that are wrong or missing: what is looked at before anything starts, and what a person is told to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::{CEILING, Outcome, World, run};

use super::github_stage::{Stage, key};
use super::house::House;

fn realm_command(world: &World, words: &[&str]) -> Outcome {
    let mut command = world.tunnel();
    command.args(words).arg("--dir").arg(world.realm());
    run(&mut command, CEILING)
}

#[test]
fn a_check_finds_what_would_keep_the_realm_from_being_served() {
    let world = World::new();
    let check = || realm_command(&world, &["serve", "--check"]);
    check().success();
    for (name, says) in [
        ("trust.toml", "is no file of trust"),
        ("permissions.txt", "is no file of permissions"),
        ("revoked.toml", "revoked.toml"),
    ] {
        let file = world.realm().join(name);
        let before = fs::read(&file).ok();
        fs::write(&file, "what = is this\n").unwrap();
        let told = check();
        assert_eq!(told.code, Some(78), "{name}: {}", told.report());
        assert!(told.lines("error")[0].contains(says), "{}", told.report());
        match before {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
    }
    check().success();
}

#[test]
fn a_file_of_trust_that_others_may_write_comes_with_its_remedy() {
    let world = World::new();
    let file = world.realm().join("trust.toml");
    fs::write(&file, "version = 1\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let told = realm_command(&world, &["signer", "run", "--once"]);
    assert_eq!(told.code, Some(78), "{}", told.report());
    let remedy = format!("run `chmod go-w {}`", file.display());
    assert_eq!(told.lines("hint"), [remedy]);
}

#[test]
fn a_token_that_is_empty_is_none_and_one_that_is_not_valid_has_a_remedy() {
    let stage = Stage::new();
    let mut list = stage.world.tunnel();
    list.env("GH_HOST", stage.github.host())
        .env("GITHUB_ENTERPRISE_TOKEN", "")
        .args(["registry", "list", "--dir"])
        .arg(stage.world.realm());
    run(&mut list, CEILING).success();
    let mut enroll = stage.enroll_command(&stage.device("333"));
    enroll.env("GITHUB_ENTERPRISE_TOKEN", "ghp_nobodys");
    let told = run(&mut enroll, CEILING);
    assert_eq!(told.code, Some(78), "{}", told.report());
    assert!(told.lines("hint")[0].contains("tunnel registry login"));
}

#[test]
fn a_device_stays_in_its_realm() {
    let (world, other) = (World::new(), World::with_realm_options(&[]));
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    drop(signer);
    let kept = device.dir().join("realm.toml");
    let before = fs::read_to_string(&kept).unwrap();
    let foreign = world.path("foreign.toml");
    let text = fs::read_to_string(other.realm().join("realm.toml")).unwrap();
    let enroll = |text: &str, words: &[&str]| {
        fs::write(&foreign, text).unwrap();
        let mut enroll = world.tunnel();
        enroll
            .arg("enroll")
            .args(words)
            .arg("--realm")
            .arg(&foreign);
        enroll
            .args(["--no-proof", "--wait", "0s", "--dir"])
            .arg(device.dir());
        run(&mut enroll, CEILING)
    };
    let renamed = text.replace("realm = \"atlas\"", "realm = \"delta\"");
    assert_ne!(renamed, text);
    let refused = enroll(&renamed, &["hula", "333"]);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert!(
        refused.lines("error")[0].contains("belongs to a device of the realm `atlas`"),
        "{}",
        refused.report()
    );
    // Nor is it changed by a command that is refused for another reason.
    let refused = enroll(&text, &["hula", "334"]);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert_eq!(fs::read_to_string(&kept).unwrap(), before);
}

#[test]
fn a_computer_without_rules_lets_no_controller_in_and_says_so() {
    let stage = Stage::new();
    let title = "controller-a.hula.atlas.sshkey.pub";
    let line = key("controller-a.hula.atlas");
    let key = line.split_once(" controller").unwrap().0;
    stage.github.open("octo", title, &line);
    let dir = stage.world.path("computer");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["realm.toml", "gh-token.txt"] {
        fs::copy(stage.world.realm().join(name), dir.join(name)).unwrap();
    }
    fs::write(
        dir.join("device.toml"),
        "system = \"hula\"\ndevice = \"333\"\n",
    )
    .unwrap();
    let house = House::new(&stage.world);
    let mut useradd = house.inside(&stage.world, Path::new("/usr/sbin/useradd"));
    useradd.args(["--create-home", "--password", "*", "atlas"]);
    run(&mut useradd, CEILING).success();
    let sync = || {
        house.tunnel(
            &stage.world,
            &dir,
            &["agent", "sync-keys", "--user", "atlas"],
        )
    };
    let keys = house.home("atlas").join(".ssh/authorized_keys");
    let told = sync();
    assert_eq!(told.code, Some(78), "{}", told.report());
    assert!(told.lines("error")[0].starts_with("there is no `trust.toml` in "));
    assert!(told.lines("hint")[0].starts_with("copy the one of the realm's"));
    assert!(!fs::read_to_string(&keys).unwrap_or_default().contains(key));
    fs::copy(
        stage.world.realm().join("trust.toml"),
        dir.join("trust.toml"),
    )
    .unwrap();
    sync().success();
    assert!(fs::read_to_string(&keys).unwrap().contains(key));
}
