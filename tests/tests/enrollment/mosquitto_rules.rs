//! The rules for mosquitto name whoever has a good certificate, and nobody else.

use std::fs;

use e2e::{CEILING, World, run};

#[test]
fn the_rules_are_for_what_is_signed_and_not_revoked() {
    let world = World::new();
    let _signer = world.signer();
    for device in ["333", "334", "controller-a"] {
        world.enroll("hula", device);
    }
    let registry = world.realm().join("registry");
    // What somebody has put into the registry is no certificate of the signer, and what is gone from there is one still.
    let certificate = fs::read(registry.join("333.hula.atlas.x509.cert")).unwrap();
    fs::write(
        registry.join("controller-x.hula.atlas.x509.cert"),
        certificate,
    )
    .unwrap();
    fs::remove_file(registry.join("controller-a.hula.atlas.x509.cert")).unwrap();
    assert_eq!(named(&world), ["333", "334", "controller-a"]);
    world.run_signer(&["revoke", "333.hula.atlas"]);
    assert_eq!(named(&world), ["334", "controller-a"]);
}

/// The devices of `hula` to which the rules give something.
#[track_caller]
fn named(world: &World) -> Vec<String> {
    let mut render = world.tunnel();
    render
        .args(["policies", "mosquitto", "--dir"])
        .arg(world.realm());
    let rules = run(&mut render, CEILING).success().stdout;
    let users = rules.lines().filter_map(|line| {
        let name = line.strip_prefix("user ")?;
        name.strip_suffix(".hula.atlas").map(str::to_owned)
    });
    let mut users: Vec<String> = users.collect();
    users.sort();
    users
}
