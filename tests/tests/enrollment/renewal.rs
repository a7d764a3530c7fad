//! A renewal replaces key and certificate, without a moment in which the device has none that works.

use std::fs;
use std::path::PathBuf;

use e2e::{CEILING, Device, Outcome, World, run};
use rustix::process::Signal;

#[test]
fn key_and_certificate_are_new_and_the_agent_takes_them() {
    let world = World::new();
    let mut serve = world.serve();
    let device = world.enroll("hula", "333");
    let controller = world.enroll("hula", "controller-a");
    let mut agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    let before = Files::of(&device);

    let outcome = renew(&world, &device, "30s").success();
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
    let after = Files::of(&device);
    assert_ne!(
        (&before.key, &before.certificate),
        (&after.key, &after.certificate)
    );
    assert_eq!(
        before.ssh, after.ssh,
        "the SSH key does not expire and stays"
    );
    assert!(!next_key(&device).exists());

    agent.signal(Signal::HUP);
    agent.wait_for_line("SIGHUP received");
    world.wait_for_presence(&controller, &device, true);

    // What lies in the files is what the next session shows: with another authority's certificate there is none.
    let elsewhere = World::new();
    let _signer = elsewhere.signer();
    Files::of(&elsewhere.enroll("hula", "333")).put(&device);
    agent.signal(Signal::HUP);
    serve.wait_for_line("invalid peer certificate");
    world.wait_for_presence(&controller, &device, false);
    after.put(&device);
    world.wait_for_presence(&controller, &device, true);
    assert_eq!(agent.has_ended(), None);
}

#[test]
fn an_interrupted_renewal_goes_on_and_the_old_certificate_works_meanwhile() {
    let world = World::new();
    let broker = world.broker();
    let proxy = world.proxy();
    let signer = world.signer();
    let device = world.enroll("hula", "333");
    signer.terminate();
    let before = Files::of(&device);

    let outcome = renew(&world, &device, "1s");
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("was not signed within"),
        "{}",
        outcome.report()
    );
    let next = fs::read_to_string(next_key(&device)).unwrap();
    assert_eq!(Files::of(&device), before, "what works is not touched");
    world.run_as(&device, &["agent", "--check"]).success();

    let _signer = world.signer();
    renew(&world, &device, "30s").success();
    assert_eq!(
        Files::of(&device).key,
        next,
        "the key that was waiting was used"
    );
    drop((broker, proxy));
}

#[test]
fn what_does_not_work_is_not_installed() {
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    let before = Files::of(&device);
    let outcome = renew(&world, &device, "10s");
    assert_eq!(
        outcome.code,
        Some(69),
        "there is no broker: {}",
        outcome.report()
    );
    assert!(
        outcome.lines("error")[0].contains("broker"),
        "{}",
        outcome.report()
    );
    assert_eq!(Files::of(&device), before);
}

#[test]
fn a_cut_between_certificate_and_key_is_mended() {
    let world = World::new();
    let _signer = world.signer();
    let device = world.enroll("hula", "333");
    let before = Files::of(&device);
    let mut command = world.tunnel_as(
        &device,
        &["enroll", "--renew", "--no-proof", "--wait", "30s"],
    );
    run(&mut command, CEILING).success();
    let after = Files::of(&device);
    // As if the power had gone after the certificate was written.
    fs::rename(device.tls_key(), next_key(&device)).unwrap();
    fs::write(device.tls_key(), &before.key).unwrap();
    make_private(&device.tls_key());
    world.run_as(&device, &["agent", "--check"]).success();
    let mut command = world.tunnel_as(&device, &["enroll", "--no-proof"]);
    run(&mut command, CEILING).success();
    assert_eq!(Files::of(&device), after);
    assert!(!next_key(&device).exists());
}

#[derive(Debug, PartialEq, Eq)]
struct Files {
    key: String,
    certificate: String,
    ssh: String,
}

impl Files {
    fn of(device: &Device) -> Self {
        Self {
            key: fs::read_to_string(device.tls_key()).unwrap(),
            certificate: fs::read_to_string(device.certificate()).unwrap(),
            ssh: fs::read_to_string(device.ssh_key()).unwrap(),
        }
    }
}

impl Files {
    /// Makes them a device's, but for the SSH key.
    fn put(&self, device: &Device) {
        fs::write(device.tls_key(), &self.key).unwrap();
        fs::write(device.certificate(), &self.certificate).unwrap();
    }
}

#[track_caller]
fn renew(world: &World, device: &Device, wait: &str) -> Outcome {
    world.run_as(device, &["enroll", "--renew", "--wait", wait])
}

fn next_key(device: &Device) -> PathBuf {
    device.dir().join(format!("{}.x509.key.new", device.id()))
}

fn make_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
