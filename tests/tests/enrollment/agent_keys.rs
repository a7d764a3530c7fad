//! The controllers' keys in the `authorized_keys` of a user of the remote computer.

use std::fs;
use std::path::Path;

use e2e::{CEILING, World, run};

use super::house::House;

#[test]
fn controllers_of_the_own_system_log_in_and_withdrawn_ones_do_not() {
    let world = World::new();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    let controller = world.enroll("hula", "controller-a");
    let stranger = world.enroll("tau", "controller-b");
    drop(signer);
    let mut house = House::new(&world);
    let mut useradd = house.inside(&world, Path::new("/usr/sbin/useradd"));
    useradd.args([
        "--create-home",
        "--password",
        "*",
        "--shell",
        "/bin/sh",
        "atlas",
    ]);
    run(&mut useradd, CEILING).success();
    let sync = |house: &House| {
        house
            .tunnel(
                &world,
                device.dir(),
                &["agent", "sync-keys", "--user", "atlas"],
            )
            .success()
    };
    sync(&house);
    house.start_sshd(&world);
    let who = |key: &Path| {
        let mut ssh = house.stock(&world, "ssh", key);
        run(ssh.args(["atlas@127.0.0.1", "id", "-un"]), CEILING)
    };
    assert_eq!(who(&controller.ssh_key()).success().stdout, "atlas\n");
    assert_eq!(who(&stranger.ssh_key()).code, Some(255), "another system's");
    assert_eq!(who(&device.ssh_key()).code, Some(255), "a target's");

    let file = house.home("atlas").join(".ssh/authorized_keys");
    let ours = fs::read_to_string(&file).unwrap();
    assert!(
        ours.ends_with("controller-a.hula.atlas tunnel-sync:hula.atlas\n"),
        "{ours}"
    );
    let own = fs::read_to_string(stranger.ssh_public_key()).unwrap();
    fs::write(&file, format!("{own}{ours}")).unwrap();
    fs::remove_file(
        world
            .realm()
            .join("registry/controller-a.hula.atlas.sshkey.pub"),
    )
    .unwrap();
    sync(&house);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        own,
        "the person's own line stays"
    );
    assert_eq!(who(&controller.ssh_key()).code, Some(255));

    let nobody = house.tunnel(
        &world,
        device.dir(),
        &["agent", "sync-keys", "--user", "no-such"],
    );
    assert_eq!(nobody.code, Some(78), "{}", nobody.report());
}
