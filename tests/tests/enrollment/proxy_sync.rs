//! The keys' way from the registry to the proxy's own directory, and their end.

use std::fs;

use e2e::{CEILING, Daemon, Device, World, run, wait_until};

use super::github_stage::Stage;

#[test]
fn an_added_key_works_at_once_and_a_withdrawn_one_ends_its_connection() {
    let world = apart();
    let (_signer, _proxy) = (world.signer(), world.proxy());
    let device = world.enroll("hula", "333");
    let refused = login(&world, &device, "too-early").wait(CEILING);
    assert!(!refused.success(), "the proxy knows no key yet");

    sync(&world);
    let mut live = login(&world, &device, "live");
    live.wait_for_line("Allocated port");
    sync(&world);
    assert_eq!(live.has_ended(), None, "nothing has changed");

    fs::remove_file(world.realm().join("registry/333.hula.atlas.sshkey.pub")).unwrap();
    sync(&world);
    let ended = live.wait(CEILING);
    assert!(!ended.success(), "{ended:?}");
    let again = login(&world, &device, "again").wait(CEILING);
    assert!(!again.success());
}

#[test]
fn a_revoked_device_loses_its_connection_and_does_not_come_back() {
    let world = apart();
    let (_signer, _proxy) = (world.signer(), world.proxy());
    let device = world.enroll("hula", "333");
    let body = fs::read(device.ssh_public_key()).unwrap();
    let (name, keys) = (
        "333.hula.atlas.sshkey.pub",
        world.realm().join("proxy/keys"),
    );
    let mut every = world.tunnel();
    every
        .args(["proxy", "sync", "--every", "200ms", "--dir"])
        .arg(world.realm());
    let mut every = world.daemon("sync", &mut every);
    wait_until("the key to be there", CEILING, || {
        keys.join(name)
            .exists()
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
    let mut live = login(&world, &device, "live");
    live.wait_for_line("Allocated port");

    let revoked = world.run_signer(&["revoke", "333.hula.atlas"]);
    let said = "333.hula.atlas: SSH key SHA256:";
    assert!(revoked.stdout.contains(said), "{}", revoked.report());
    assert!(!live.wait(CEILING).success());
    assert_eq!(every.has_ended(), None);
    assert!(every.terminate().success());

    // Whoever puts the key back does not get it in again, also when the name is readmitted, and under no other name.
    let registry = world.realm().join("registry");
    fs::write(registry.join(name), &body).unwrap();
    sync(&world);
    assert!(!keys.join(name).exists());
    world.run_signer(&["readmit", "333.hula.atlas"]);
    let text = String::from_utf8(body).unwrap();
    let other = "controller-x.hula.atlas";
    fs::write(registry.join(name), &text).unwrap();
    let body = text.replace("333.hula.atlas", other);
    fs::write(registry.join(format!("{other}.sshkey.pub")), body).unwrap();
    sync(&world);
    assert!(!keys.join(name).exists());
    assert!(!keys.join(format!("{other}.sshkey.pub")).exists());
}

#[test]
fn a_proxy_that_reads_the_registry_refuses_a_revoked_key_for_ever() {
    let world = World::new();
    let signer = world.signer();
    let (device, other) = (world.enroll("hula", "333"), world.enroll("hula", "334"));
    drop(signer);
    let key = world.realm().join("registry/333.hula.atlas.sshkey.pub");
    let body = fs::read(&key).unwrap();
    world.run_signer(&["revoke", "333.hula.atlas"]);
    world.run_signer(&["readmit", "333.hula.atlas"]);
    fs::write(&key, body).unwrap();
    let _proxy = world.proxy();
    assert!(!login(&world, &device, "old").wait(CEILING).success());
    login(&world, &other, "another").wait_for_line("Allocated port");
}

#[test]
fn a_copied_key_stays_its_owners_and_cuts_nobody_off() {
    let world = apart();
    let (_signer, _proxy) = (world.signer(), world.proxy());
    let victim = world.enroll("hula", "333");
    sync(&world);
    let mut live = login(&world, &victim, "live");
    live.wait_for_line("Allocated port");
    let text = fs::read_to_string(victim.ssh_public_key()).unwrap();
    let registry = world.realm().join("registry");
    for copy in ["1.hula.atlas", "5.kiwi.atlas"] {
        let body = text.replace("333.hula.atlas", copy);
        fs::write(registry.join(format!("{copy}.sshkey.pub")), body).unwrap();
    }
    let said = sync(&world);
    assert!(
        said.contains("it is the key of `333.hula.atlas`, which had it first"),
        "{said}"
    );
    assert!(!said.contains("key removed"), "{said}");
    // Nor when its owner brings it anew, and is now the last.
    fs::remove_file(registry.join("333.hula.atlas.sshkey.pub")).unwrap();
    fs::write(registry.join("333.hula.atlas.sshkey.pub"), &text).unwrap();
    let said = sync(&world);
    assert!(!said.contains("key removed"), "{said}");
    assert_eq!(live.has_ended(), None);
    let keys = world.realm().join("proxy/keys");
    assert!(!keys.join("1.hula.atlas.sshkey.pub").exists());
    assert!(
        keys.join("5.kiwi.atlas.sshkey.pub").exists(),
        "its own system"
    );
}

#[test]
fn a_key_that_does_not_say_whose_it_is_counts_nowhere() {
    let world = World::new();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    drop(signer);
    let key = world.realm().join("registry/333.hula.atlas.sshkey.pub");
    let text = fs::read_to_string(&key).unwrap();
    let proxy = world.proxy();
    login(&world, &device, "named").wait_for_line("Allocated port");
    drop(proxy);
    fs::write(&key, text.replace(" 333.hula.atlas", "")).unwrap();
    let _proxy = world.proxy();
    assert!(!login(&world, &device, "nameless").wait(CEILING).success());
}

#[test]
fn the_registry_is_not_taken_for_the_proxys_own_directory_by_another_name() {
    let world = World::new();
    let file = world.realm().join("server.toml");
    let text = fs::read_to_string(&file).unwrap();
    let strange = world.realm().join("registry/9.hula.atlas.sshkey.pub");
    fs::write(&strange, "somebody's").unwrap();
    std::os::unix::fs::symlink("registry", world.realm().join("link")).unwrap();
    for name in ["registry", "./registry", "registry/../registry", "link"] {
        let text = text.replace("[proxy]\n", &format!("[proxy]\nkeys = \"{name}\"\n"));
        fs::write(&file, text).unwrap();
        let mut sync = world.tunnel();
        sync.args(["proxy", "sync", "--dir"]).arg(world.realm());
        let outcome = run(&mut sync, CEILING);
        assert_eq!(outcome.code, Some(78), "{name}: {}", outcome.report());
        assert!(strange.exists(), "{name}");
    }
}

#[test]
fn the_owner_of_the_realm_may_upload_whoever_looks() {
    let world = apart();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    drop(signer);
    // As with `sudo`: the realm and what is uploaded are one user's, and root synchronises.
    let title = format!("{}.sshkey.pub", device.id());
    for path in [world.realm(), world.realm().join("registry").join(&title)] {
        std::os::unix::fs::chown(path, Some(54_321), None).unwrap();
    }
    let said = sync(&world);
    let key = world.realm().join("proxy/keys").join(title);
    assert!(key.exists(), "{said}");
}

#[test]
fn what_the_admin_does_not_permit_is_left_out() {
    let world = apart();
    let _signer = world.signer();
    let (kept, strange) = (world.enroll("hula", "333"), world.enroll("hula", "334"));
    let registry = world.realm().join("registry");
    // Somebody else of this machine.
    std::os::unix::fs::chown(
        registry.join("334.hula.atlas.sshkey.pub"),
        Some(54_321),
        None,
    )
    .unwrap();
    let said = sync(&world);
    let keys = world.realm().join("proxy/keys");
    assert!(keys.join(format!("{}.sshkey.pub", kept.id())).exists());
    assert!(!keys.join(format!("{}.sshkey.pub", strange.id())).exists());
    assert!(
        said.contains("334.hula.atlas.sshkey.pub") && said.contains("left out"),
        "{said}"
    );

    let rule = "version = 1\n[[upload]]\nwho = \"uid:54321\"\nsystems = [\"hula\"]\n";
    fs::write(world.realm().join("trust.toml"), rule).unwrap();
    sync(&world);
    assert!(keys.join(format!("{}.sshkey.pub", strange.id())).exists());
}

#[test]
fn serve_brings_the_keys_by_itself_and_enroll_proves_it() {
    let world = apart();
    let _serve = world.serve();
    let mut enroll = world.tunnel();
    enroll
        .args(["enroll", "hula", "333", "--wait", "30s", "--realm"])
        .arg(world.realm().join("realm.toml"))
        .arg("--dir")
        .arg(world.path("device"));
    let outcome = run(&mut enroll, CEILING).success();
    assert!(
        outcome.stderr.contains("takes the certificate"),
        "{}",
        outcome.report()
    );
    assert!(
        outcome.stderr.contains("takes the SSH key"),
        "{}",
        outcome.report()
    );
}

#[test]
fn serve_follows_the_issues_of_a_repository() {
    let stage = Stage::new();
    let _serve = stage.world.serve();
    let device = stage.device("333");
    let mut enroll = stage.enroll_command(&device);
    let outcome = run(enroll.args(["--wait", "20s"]), CEILING).success();
    assert!(
        outcome.stderr.contains("takes the SSH key"),
        "{}",
        outcome.report()
    );
    let mut live = login(&stage.world, &device, "live");
    live.wait_for_line("Allocated port");

    let title = "333.hula.atlas.sshkey.pub";
    let number = stage.github.issues(title)[0].number;
    stage.registry(&["delete", &number.to_string()]).success();
    assert!(!live.wait(CEILING).success());
    assert!(
        !login(&stage.world, &device, "again")
            .wait(CEILING)
            .success()
    );
}

#[test]
fn a_proxy_that_reads_the_registry_needs_no_sync() {
    let world = World::new();
    let mut sync = world.tunnel();
    sync.args(["proxy", "sync", "--dir"]).arg(world.realm());
    let outcome = run(&mut sync, CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome
            .stderr
            .contains("reads the registry's directory itself"),
        "{}",
        outcome.report()
    );
}

#[test]
fn a_proxy_that_reads_the_registry_shuts_out_who_is_revoked() {
    let world = World::new();
    let (signer, _proxy) = (world.signer(), world.proxy());
    let (device, other) = (world.enroll("hula", "333"), world.enroll("hula", "334"));
    // A running one would take the key out of the registry.
    drop(signer);
    let mut live = login(&world, &device, "live");
    live.wait_for_line("Allocated port");
    let mut stays = login(&world, &other, "stays");
    stays.wait_for_line("Allocated port");
    // The list alone: the key stays where it is.
    let list = "version = 1\n[[device]]\nid = \"333.hula.atlas\"\nsince = 1790000000\n";
    let (file, key) = (
        world.realm().join("revoked.toml"),
        world.realm().join("registry/333.hula.atlas.sshkey.pub"),
    );
    fs::write(&file, list).unwrap();
    assert!(!live.wait(CEILING).success());
    assert!(key.exists());
    assert!(!login(&world, &device, "again").wait(CEILING).success());
    // Nor does a key that is put there anew come in.
    let body = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    fs::write(&key, body).unwrap();
    assert!(!login(&world, &device, "anew").wait(CEILING).success());
    // A damaged list lets nobody in who was shut out.
    fs::write(&file, "version = 1\n[[devices]]").unwrap();
    assert!(!login(&world, &device, "damaged").wait(CEILING).success());
    assert_eq!(stays.has_ended(), None);

    fs::write(&file, list).unwrap();
    world.run_signer(&["readmit", "333.hula.atlas"]);
    wait_until("the readmitted device to be let in", CEILING, || {
        let mut back = login(&world, &device, "back");
        wait_until("an answer", CEILING, || {
            let said = back.stderr();
            if said.contains("Allocated port") {
                return Ok(Ok(()));
            }
            back.has_ended().map(|_| Err(said)).ok_or("none".to_owned())
        })
    });
}

/// A realm whose proxy has its keys in a directory of its own.
#[track_caller]
fn apart() -> World {
    let world = World::new();
    let file = world.realm().join("server.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("[proxy]\n", "[proxy]\nkeys = \"proxy/keys\"\n");
    fs::write(&file, text).unwrap();
    world
}

#[track_caller]
fn sync(world: &World) -> String {
    let mut sync = world.tunnel();
    sync.args(["proxy", "sync", "--dir"]).arg(world.realm());
    run(&mut sync, CEILING).success().stderr
}

/// Stock ssh with a remote forward, as long as the proxy lets it.
#[track_caller]
fn login(world: &World, device: &Device, name: &str) -> Daemon {
    let mut ssh = world.stock("ssh", device, &[]);
    ssh.args(["-o", "LogLevel=INFO", "-N", "-R", "0:localhost:22", "-p"])
        .arg(world.proxy_port().to_string())
        .arg("hula@127.0.0.1");
    world.daemon(name, &mut ssh)
}
