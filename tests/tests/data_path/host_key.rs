//! A proxy that changes its host key, and everybody goes on connecting.

use std::fs;
use std::process::Command;

use e2e::{CEILING, Device, Outcome, Sshd, World, current_user, run, tool};

#[test]
fn the_next_host_key_is_announced_then_used_and_the_last_one_retired() {
    let world = World::new();
    let serve = world.serve();
    let sshd = Sshd::start("sshd", world.folder(), &world.logs());
    let (device, controller) = (
        world.enroll("hula", "333"),
        world.enroll("hula", "controller-a"),
    );
    // Who is away while the realm's file goes round.
    let absent = world.enroll("hula", "controller-b");
    device.configure(&sshd, &[], "1s");
    sshd.authorize(&controller);
    sshd.authorize(&absent);
    let agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    let first = presented(&world);

    let refused = host_key(&world, &["switch"]);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert_eq!(refused.lines("error"), ["there is no next host key"]);
    assert_eq!(
        refused.lines("hint"),
        ["first: `tunnel proxy host-key next`"]
    );

    let next = host_key(&world, &["next"]).success().stdout;
    assert_eq!(
        host_key(&world, &["next"]).success().stdout,
        next,
        "made once"
    );
    let shown = host_key(&world, &[]).success().stdout;
    assert!(shown.contains("in use") && shown.contains(&next), "{shown}");
    assert_eq!(named(&world).len(), 2);
    assert_eq!(presented(&world), first, "not used yet");

    // The file goes round. With it, the old key is as good as before.
    agent.terminate();
    for device in [&device, &controller] {
        bring_realm(&world, device);
    }
    let agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    connect(&world, &controller).success();

    host_key(&world, &["switch"]).success();
    serve.terminate();
    let serve = world.serve();
    let second = presented(&world);
    assert_ne!(first, second);
    world.wait_for_presence(&controller, &device, true);
    connect(&world, &controller).success();
    // Who has the old file is told both fingerprints, and goes no further.
    let cause = format!(
        "proxy `127.0.0.1:{}` presented host key {}, expected {}",
        world.proxy_port(),
        fingerprint(&world, &second),
        fingerprint(&world, &first)
    );
    let stdio = world.run_as(&absent, &["stdio", "333"]);
    for outcome in [connect(&world, &absent), stdio] {
        assert_eq!(outcome.code, Some(65), "{}", outcome.report());
        assert_eq!(
            outcome.lines("error"),
            ["cannot reach `333.hula.atlas` through the proxy"]
        );
        assert_eq!(outcome.lines("caused by"), [&*cause]);
        assert_eq!(
            outcome.lines("hint"),
            ["ask the realm's admin whether the proxy's host key was changed on purpose"]
        );
    }

    let struck = host_key(&world, &["retire"]).success().stdout;
    assert_eq!(struck, "1 struck out of realm.toml\n");
    assert_eq!(named(&world), [second]);
    for device in [&device, &controller, &absent] {
        bring_realm(&world, device);
    }
    agent.terminate();
    let _agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    connect(&world, &controller).success();
    connect(&world, &absent).success();
    drop(serve);
}

fn host_key(world: &World, words: &[&str]) -> Outcome {
    let mut command = world.tunnel();
    command.args(["proxy", "host-key"]).args(words);
    run(command.arg("--dir").arg(world.realm()), CEILING)
}

fn connect(world: &World, controller: &Device) -> Outcome {
    let whom = format!("{}@333", current_user());
    world.run_as(controller, &["connect", &whom, "--", "true"])
}

fn bring_realm(world: &World, device: &Device) {
    fs::copy(
        world.realm().join("realm.toml"),
        device.dir().join("realm.toml"),
    )
    .unwrap();
}

/// The host key that OpenSSH sees, as realm.toml has it.
fn presented(world: &World) -> String {
    let mut scan = Command::new(tool("ssh-keyscan"));
    let port = world.proxy_port().to_string();
    scan.args(["-t", "ed25519", "-p", &port, "127.0.0.1"]);
    let scanned = run(&mut scan, CEILING).success().stdout;
    let words: Vec<&str> = scanned.split_whitespace().skip(1).take(2).collect();
    words.join(" ")
}

/// As `ssh-keygen` prints it.
fn fingerprint(world: &World, key: &str) -> String {
    let file = world.path("one.pub");
    fs::write(&file, format!("{key}\n")).unwrap();
    let mut keygen = Command::new(tool("ssh-keygen"));
    let printed = run(keygen.args(["-l", "-f"]).arg(file), CEILING).success();
    let words = printed.stdout.split_whitespace().nth(1);
    words.unwrap().to_owned()
}

/// The host keys that realm.toml names.
fn named(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.realm().join("realm.toml")).unwrap();
    let quoted = text
        .lines()
        .skip_while(|line| !line.starts_with("host_keys"))
        .take_while(|line| !line.starts_with('['))
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.map(str::to_owned).collect()
}
