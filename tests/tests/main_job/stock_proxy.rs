//! A realm whose proxy is a stock OpenSSH server: it knows neither names nor pools, and gives a port to one connection.

use std::fs;

use e2e::{CEILING, Session, Sshd, World, current_user, established, run, wait_until};

use super::{GONE, GRACE, Job};

#[test]
fn a_stock_sshd_serves_as_the_proxy() {
    let world = World::new();
    let (broker, signer) = (world.broker(), world.signer());
    let proxy = Sshd::start("stock-proxy", world.folder(), &world.logs());
    name_as_proxy(&world, &proxy);
    // At a stock server a system is a user, and whoever runs the tests is the only one it lets in.
    let system = current_user();
    let device = world.enroll(&system, "333");
    let controller = world.enroll(&system, "controller-a");
    proxy.authorize(&device);
    proxy.authorize(&controller);
    let sshd = Sshd::start("sshd", world.folder(), &world.logs());
    sshd.authorize(&controller);
    device.configure(&sshd, &[], GRACE);
    let agent = world.agent(&device);
    world.wait_for_presence(&controller, &device, true);
    let job = Job {
        agent: Some(agent),
        serve: None,
        sshd,
        device,
        controller,
        world,
    };
    let mut first = Session::start(&mut job.connect("cat"));
    first.echo("first");
    let mut second = Session::start(&mut job.connect("cat"));
    second.echo("second, over the same connection of the device");
    // The device dials for its next stream beside the one that it serves, and learns then that a port has one connection.
    wait_until("one connection to be shared", CEILING, || {
        let log = job.agent.as_ref().unwrap().stderr();
        if log.contains("streams share it") {
            Ok(())
        } else {
            Err(log)
        }
    });
    // Two controllers' connections, and the device's one.
    wait_until(
        "the refused connection to go",
        CEILING,
        || match established(proxy.port()) {
            3 => Ok(()),
            other => Err(format!("{other} connections")),
        },
    );
    let log = job.agent.as_ref().unwrap().stderr();
    assert!(!log.contains("no connection to the proxy"), "{log}");
    assert_eq!(first.finish(), Some(0));
    second.echo("still here");
    assert_eq!(second.finish(), Some(0));
    let outcome = run(&mut job.connect("exit 7"), CEILING);
    assert_eq!(outcome.code, Some(7), "{}", outcome.report());
    wait_until("the proxy to hold no tunnel", GONE, || {
        match established(proxy.port()) {
            0 => Ok(()),
            left => Err(format!("{left} connections")),
        }
    });
    drop((broker, signer));
}

/// Puts another proxy into the realm's file, before anybody gets a copy of it.
#[track_caller]
pub(crate) fn name_as_proxy(world: &World, proxy: &Sshd) {
    let path = world.realm().join("realm.toml");
    let key = fs::read_to_string(proxy.host_key()).unwrap();
    let key: Vec<&str> = key.split_whitespace().take(2).collect();
    let written = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let mut replaced = 0;
    let mut in_proxy = false;
    for line in written.lines() {
        if line.starts_with('[') {
            in_proxy = line == "[[proxy]]";
        }
        let name = line.split('=').next().unwrap_or_default().trim();
        let line = match name {
            "address" if in_proxy => format!("address = \"{}\"", proxy.address()),
            "host_keys" if in_proxy => format!("host_keys = [\"{}\"]", key.join(" ")),
            _ => line.to_owned(),
        };
        replaced += usize::from(in_proxy && (name == "address" || name == "host_keys"));
        lines.push(line);
    }
    assert_eq!(replaced, 2, "{written}");
    fs::write(path, lines.join("\n")).unwrap();
}
