//! Peers that speak the original's plain words, with the original's programs.

use std::time::Duration;

use e2e::{
    CEILING, Device, Mosquitto, OriginalTarget, Outcome, ReservedPort, ReverseForward, Session,
    Sshd, World, current_user, established, is_listening, original_order, run, wait_until,
};

use super::{GONE, Job};

/// The original controller's parser: a `connected` with a decimal port.
fn port_of(state: &str) -> u16 {
    state
        .strip_prefix("connected|port=")
        .and_then(|rest| rest.split('|').next()?.parse().ok())
        .unwrap_or_else(|| panic!("`{state}` has no port"))
}

#[test]
fn our_agent_serves_the_originals_controller() {
    let job = Job::start();
    let (world, controller, device) = (&job.world, &job.controller, &job.device);
    // The original's controller learns the state with a word that nobody knows.
    original_order(world, controller, device, "state?", "disconnected", CEILING);
    let state = original_order(
        world,
        controller,
        device,
        "connect",
        "connected|port=",
        CEILING,
    );
    // It repeats its word every 5 s, and the port has to stay.
    assert_eq!(
        original_order(world, controller, device, "connect", "connected", CEILING),
        state
    );
    assert_eq!(
        original_order(world, controller, device, "connect ", "connected", CEILING),
        state
    );
    let port = port_of(&state);
    assert_eq!(ssh_to_port(&job, port).stdout, "through the port\n");
    let state = original_order(
        world,
        controller,
        device,
        "disconnect",
        "disconnected",
        CEILING,
    );
    assert_eq!(state, "disconnected");
    wait_until("the proxy to hold no tunnel", GONE, || {
        match established(world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
}

#[test]
fn the_originals_disconnect_does_not_cut_our_controllers_session() {
    let job = Job::start();
    let other = job.second_controller();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("up");
    original_order(
        &job.world,
        &other,
        &job.device,
        "connect",
        "connected|port=",
        CEILING,
    );
    let order =
        |word, wanted| original_order(&job.world, &other, &job.device, word, wanted, CEILING);
    order("disconnect", "disconnected");
    for round in 0..5 {
        session.echo(&format!("still here {round}"));
    }
    assert_eq!(session.finish(), Some(0));
}

#[test]
fn our_controller_works_with_the_originals_target() {
    // The original's target held one MQTT connection; mosquitto's clients need two, so the broker is one that lets them.
    let world = World::new();
    let _broker = Mosquitto::start_open(&world);
    let (_proxy, _signer) = (world.proxy(), world.signer());
    let sshd = Sshd::start("sshd", world.folder(), &world.logs());
    let device = world.enroll("hula", "old");
    let controller = world.enroll("hula", "controller-a");
    sshd.authorize(&controller);
    let forward = ReverseForward {
        login: "hula@127.0.0.1".to_owned(),
        proxy_port: world.proxy_port(),
        port: 61_333,
        sshd_port: sshd.port(),
    };
    let _target = OriginalTarget::start(&world, &device, &forward);
    // The original's target reports no host keys; the person has them from elsewhere.
    let outcome = connect(&world, &controller, "old", &sshd, &[]);
    assert_eq!(
        (outcome.code, &*outcome.stdout),
        (Some(4), "plain\n"),
        "{}",
        outcome.report()
    );
    let outcome = connect(&world, &controller, "old", &sshd, &["--plain"]);
    assert_eq!(outcome.code, Some(4), "{}", outcome.report());
    // It is no unknown device to the doctor either.
    let looked = world.run_as(&controller, &["doctor", "old"]);
    assert!(
        looked.stdout.contains("it tells no presence") && looked.code != Some(77),
        "{}",
        looked.report()
    );
    // The original ends a session with `disconnect`, and then its target has no tunnel.
    wait_until("the target to be told", GONE, || {
        match established(world.proxy_port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
}

#[test]
fn the_replayed_original_does_its_job_without_us() {
    // What the other tests and the bench use as the original has to be one: order, reverse forward, `ssh -W`, end.
    let world = World::new();
    let _broker = Mosquitto::start_open(&world);
    let _signer = world.signer();
    let remote = Sshd::start("sshd", world.folder(), &world.logs());
    let proxy = Sshd::start("proxy-sshd", world.folder(), &world.logs());
    let device = world.enroll("hula", "old");
    let controller = world.enroll("hula", "controller-a");
    proxy.authorize(&device);
    let port = ReservedPort::take();
    let forward = ReverseForward {
        login: format!("{}@127.0.0.1", current_user()),
        proxy_port: proxy.port(),
        port: port.number(),
        sshd_port: remote.port(),
    };
    let _target = OriginalTarget::start(&world, &device, &forward);
    let order = |word, wanted| original_order(&world, &controller, &device, word, wanted, CEILING);
    assert_eq!(order("what?", "disconnected"), "disconnected");
    assert_eq!(
        order("connect", "connected|port="),
        format!("connected|port={}", port.number())
    );
    wait_until("the reverse forward", CEILING, || {
        listening(port.number(), true)
    });
    assert_eq!(order("disconnect", "disconnected"), "disconnected");
    wait_until("the forward to be gone", CEILING, || {
        listening(port.number(), false)
    });
}

fn listening(port: u16, wanted: bool) -> Result<(), String> {
    let is = is_listening(port);
    if is == wanted {
        Ok(())
    } else {
        Err(format!("listening: {is}"))
    }
}

/// The controller's session with the original's target. What a person does about the host key is to have it in the
/// device directory's `known_hosts`.
#[track_caller]
fn connect(
    world: &World,
    controller: &Device,
    name: &str,
    sshd: &Sshd,
    options: &[&str],
) -> Outcome {
    let key = std::fs::read_to_string(sshd.host_key()).unwrap();
    let line = format!("{name}.hula.atlas {}\n", key.trim());
    std::fs::write(controller.dir().join("known_hosts"), line).unwrap();
    let whom = format!("{}@{name}", current_user());
    let mut command = world.tunnel_as(controller, &["connect"]);
    command
        .args(options)
        .args([&*whom, "--", "echo plain; exit 4"]);
    run(&mut command, CEILING + Duration::from_secs(10))
}

/// The original's last step: `ssh -p PORT USER@localhost` through the proxy.
#[track_caller]
fn ssh_to_port(job: &Job, port: u16) -> Outcome {
    let mut ssh = job.stock("ssh");
    ssh.args(["-o", "HostKeyAlias=333", "-p", &port.to_string(), "-J"])
        .arg(job.world.jump("hula"))
        .arg(format!("{}@localhost", current_user()))
        .arg("echo through the port");
    run(&mut ssh, CEILING).success()
}
