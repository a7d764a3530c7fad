//! A system whose tunnels are always on: no broker, no certificates, no orders; the port follows from the number.

use std::fs;
use std::path::Path;

use e2e::{
    CEILING, Daemon, Device, Outcome, ReservedPort, Session, Sshd, World, current_user,
    established, run, wait_until,
};

use crate::main_job::GRACE;
use crate::main_job::stock_proxy::name_as_proxy;

#[test]
fn a_tunnel_that_nobody_orders_is_found_by_its_number_and_comes_back() {
    let stage = Stage::new("hula", 61_000, 61_999);
    let mut proxy = stage.world.proxy();
    let _agent = stage.agent(3);
    let port = stage.world.proxy_port();
    wait_until("three links", CEILING, || links(port, 3));

    let mut first = stage.session("333");
    let mut second = stage.session("333");
    first.echo("first");
    second.echo("second");
    assert!(
        proxy.stderr().contains("port=61333"),
        "the port of its number: {}",
        proxy.stderr()
    );
    assert_eq!(first.finish(), Some(0));
    assert_eq!(second.finish(), Some(0));
    wait_until("three links again", CEILING, || links(port, 3));

    // Nobody asks for it; it comes back by itself, all of it.
    proxy.kill();
    proxy = stage.world.proxy();
    wait_until("three links through the next proxy", CEILING, || {
        links(port, 3)
    });
    let outcome = stage.connect(&["333", "--", "echo back"]);
    assert_eq!((outcome.code, &*outcome.stdout), (Some(0), "back\n"));
    drop(proxy);
}

#[test]
fn a_device_whose_name_is_no_number_has_the_port_that_it_is_given() {
    let stage = Stage::new("hula", 61_000, 61_999);
    let _proxy = stage.world.proxy();
    let check = || stage.world.run_as(&stage.device, &["agent", "--check"]);
    rename(&stage.device, "device = \"north\"\n");
    let outcome = check();
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert_eq!(
        outcome.lines("error"),
        ["`north.hula.atlas` has no port: its name is no number within the ports of its system"]
    );
    rename(&stage.device, "device = \"north\"\nport = 61500\n");
    assert_eq!(check().code, Some(0), "{}", check().report());
    rename(&stage.device, "device = \"333\"\nport = 61500\n");
    let _agent = stage.agent(1);

    let outcome = stage.connect(&["--port", "61500", "333", "--", "echo given"]);
    assert_eq!(
        (outcome.code, &*outcome.stdout),
        (Some(0), "given\n"),
        "{}",
        outcome.report()
    );
    let outcome = stage.connect(&["north", "--", "true"]);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert_eq!(
        outcome.lines("error"),
        ["the port of service `ssh` of `north.hula.atlas` is not known"]
    );
    assert_eq!(outcome.lines("hint").len(), 1, "{}", outcome.report());
    // Who is online only a broker knows.
    let outcome = stage.world.run_as(&stage.controller, &["list"]);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    let said = outcome.stderr.contains("are always on, without a broker");
    assert!(said, "{}", outcome.report());
}

#[test]
fn a_stock_sshd_that_permits_one_port_serves_as_the_proxy() {
    let port = ReservedPort::take();
    let stage = Stage::around(
        &current_user(),
        port.number() - 333,
        port.number(),
        |world| {
            let proxy = Sshd::start("stock-proxy", world.folder(), &world.logs());
            name_as_proxy(world, &proxy);
            Some(proxy)
        },
    );
    let proxy = stage.proxy.as_ref().unwrap();
    let line = |device: &Device, options: &str| {
        let key = fs::read_to_string(device.ssh_public_key()).unwrap();
        format!("restrict,port-forwarding,{options} {}\n", key.trim())
    };
    let number = port.number();
    let lines = line(
        &stage.device,
        &format!("permitlisten=\"localhost:{number}\",permitopen=\"none\""),
    ) + &line(
        &stage.controller,
        &format!("permitopen=\"localhost:{number}\",permitlisten=\"none\""),
    );
    fs::write(
        proxy.host_key().with_file_name("authorized_keys"),
        lines
            .replace("permitopen=\"none\"", "permitopen=\"localhost:1\"")
            .replace("permitlisten=\"none\"", "permitlisten=\"localhost:1\""),
    )
    .unwrap();
    // It gives a port to one connection; the second service and the second link do no harm.
    let mut agent = stage.agent(2);
    agent.wait_for_line("the tunnel is up");
    agent.wait_for_line("streams share it");
    let mut session = stage.session("333");
    session.echo("through a stock sshd");
    let outcome = stage.connect(&["333", "--", "exit 7"]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.report());
    session.echo("still here");
    assert_eq!(session.finish(), Some(0));
}

#[test]
fn ranges_that_overlap_are_refused_when_the_realm_is_read() {
    let stage = Stage::new("hula", 61_000, 61_999);
    for device in [&stage.device, &stage.controller] {
        let realm = device.dir().join("realm.toml");
        let text = fs::read_to_string(&realm).unwrap();
        let more = format!("{text}\n[ports.tau]\nstart = 61999\nend = 62999\n");
        fs::write(realm, more).unwrap();
    }
    for outcome in [
        stage.world.run_as(&stage.device, &["agent", "--check"]),
        stage.connect(&["333", "--", "true"]),
    ] {
        assert_eq!(outcome.code, Some(78), "{}", outcome.report());
        let why = outcome.lines("caused by").join(" ") + &outcome.stderr;
        assert!(
            why.contains("the ports of `hula` and `tau` overlap"),
            "{}",
            outcome.report()
        );
    }
}

#[test]
fn the_doctor_goes_to_a_device_without_a_broker() {
    let stage = Stage::new("hula", 61_000, 61_999);
    let _proxy = stage.world.proxy();
    let _agent = stage.agent(1);
    let doctor = |who: &Device, words: &[&str]| {
        let words: Vec<&str> = [&["doctor"], words].concat();
        stage.world.run_as(who, &words)
    };
    let well = doctor(&stage.controller, &["333"]).success();
    for line in [
        "– broker-mqtt",
        "– order",
        "✓ proxy-login",
        "✓ sshd",
        "✓ host-key",
    ] {
        assert!(well.stdout.contains(line), "{line}: {}", well.report());
    }
    assert_eq!(well.stdout.lines().last(), Some("2"), "{}", well.report());
    // Of the two services that the device offers nobody serves one.
    let ill = doctor(&stage.device, &[]);
    assert_eq!(ill.code, Some(69), "{}", ill.report());
    for line in ["– certificate", "✗ service-more", "✓ service-ssh"] {
        assert!(ill.stdout.contains(line), "{line}: {}", ill.report());
    }
}

/// A device and a controller of an always-on system: no broker runs, and nobody has a certificate.
struct Stage {
    proxy: Option<Sshd>,
    _sshd: Sshd,
    device: Device,
    controller: Device,
    world: World,
}

impl Stage {
    #[track_caller]
    fn new(system: &str, start: u16, end: u16) -> Self {
        Self::around(system, start, end, |_| None)
    }

    #[track_caller]
    fn around(
        system: &str,
        start: u16,
        end: u16,
        proxy: impl FnOnce(&World) -> Option<Sshd>,
    ) -> Self {
        let world = World::new();
        let proxy = proxy(&world);
        let realm = world.realm().join("realm.toml");
        let text = fs::read_to_string(&realm).unwrap();
        let more = format!("[ports.{system}]\nstart = {start}\nend = {end}\nalways_on = true\n");
        fs::write(&realm, format!("{text}\n{more}")).unwrap();
        let signer = world.signer();
        let device = world.enroll(system, "333");
        let controller = world.enroll(system, "controller-a");
        signer.terminate();
        for device in [&device, &controller] {
            fs::remove_file(device.tls_key()).unwrap();
            fs::remove_file(device.certificate()).unwrap();
        }
        let sshd = Sshd::start("sshd", world.folder(), &world.logs());
        sshd.authorize(&controller);
        device.configure(&sshd, &[("more", "127.0.0.1:1")], GRACE);
        // Nobody reports host keys here; the person has them from elsewhere.
        let key = fs::read_to_string(sshd.host_key()).unwrap();
        let line = format!("333.{system}.atlas {}\n", key.trim());
        fs::write(controller.dir().join("known_hosts"), line).unwrap();
        Self {
            proxy,
            _sshd: sshd,
            device,
            controller,
            world,
        }
    }

    /// The device's agent, which is to keep so many links.
    #[track_caller]
    fn agent(&self, links: usize) -> Daemon {
        rename(&self.device, &format!("links = {links}\n"));
        let mut agent = self.world.agent(&self.device);
        agent.wait_for_line("its tunnel is always on");
        agent
    }

    #[track_caller]
    fn session(&self, device: &str) -> Session {
        let whom = format!("{}@{device}", current_user());
        let words = ["connect", &whom, "--", "cat"];
        Session::start(&mut self.world.tunnel_as(&self.controller, &words))
    }

    #[track_caller]
    fn connect(&self, words: &[&str]) -> Outcome {
        let mut command = self.world.tunnel_as(&self.controller, &["connect"]);
        run(command.args(words), CEILING)
    }
}

/// Puts these lines at the beginning of the device's settings, in place of those of the same names. A name that is new has the keys
/// of the old one.
#[track_caller]
fn rename(device: &Device, lines: &str) {
    let path = device.dir().join("device.toml");
    let text = fs::read_to_string(&path).unwrap();
    let named = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let new: Vec<String> = lines.lines().map(named).collect();
    let kept = text.lines().filter(|line| !new.contains(&named(line)));
    let kept = kept.collect::<Vec<_>>().join("\n");
    fs::write(&path, format!("{lines}{kept}\n")).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = device.dir().join(name);
        if !to.exists() {
            fs::copy(from, to).unwrap();
        }
    };
    copy(&device.ssh_key(), "north.hula.atlas.sshkey");
}

fn links(port: u16, wanted: usize) -> Result<(), String> {
    match established(port) {
        found if found == wanted => Ok(()),
        found => Err(format!("{found} connections")),
    }
}

#[test]
fn sighup_has_its_files_read_again_and_cuts_nothing() {
    let stage = Stage::new("hula", 61_000, 61_999);
    let _proxy = stage.world.proxy();
    let mut agent = stage.agent(1);
    let mut session = stage.session("333");
    session.echo("before");
    agent.signal(rustix::process::Signal::HUP);
    agent.wait_for_line("the files have been read again");
    session.echo("after");
    assert_eq!(session.finish(), Some(0));
}
