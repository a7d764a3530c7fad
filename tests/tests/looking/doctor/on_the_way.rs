//! What can be wrong with broker and proxy, and on the way to them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use e2e::{CEILING, Mosquitto, ReservedPort, SilentServer, World, run, tool, wait_until};
use rustix::net::{AddressFamily, SocketType};

use super::patient::Patient;
use super::{CONFIGURATION, DATA, REFUSED, UNAVAILABLE};
use crate::looking::certificate::certify;
use crate::main_job::{Job, Parts};

#[test]
fn what_is_wrong_on_the_way_to_the_broker() {
    let job = Job::start();
    let patient = |name: &str| Patient::of(&job.world, &job.controller, name);
    let broker = format!("127.0.0.1:{}", job.world.broker_port());

    let lost = patient("lost");
    lost.edit("realm.toml", &broker, "broker.invalid:8883");
    let outcome = lost.ask(&["333"]);
    outcome.blames("broker-dns", "getent hosts broker.invalid", UNAVAILABLE);
    // The way to the proxy is another.
    outcome.is("proxy-login", "ok");
    outcome.is("order", "skipped");

    let (dropping, _held) = dropping_port();
    let blocked = patient("blocked");
    blocked.edit("realm.toml", &broker, &dropping);
    let silent = SilentServer::start();
    let hanging = patient("hanging");
    hanging.edit("realm.toml", &broker, &silent.address());
    // Both wait for as long as it takes to be sure.
    thread::scope(|scope| {
        scope.spawn(|| {
            let drops = "a firewall on the way may drop TCP port";
            blocked.ask(&[]).blames("broker-tcp", drops, UNAVAILABLE);
        });
        let stuck = "is stuck: see its log";
        hanging.ask(&[]).blames("broker-tls", stuck, UNAVAILABLE);
    });

    // One computer of a cluster that is away is no error.
    let closed = ReservedPort::take();
    let cluster = patient("cluster");
    let address = |place: &str| format!("address = \"{place}\"");
    let away = address(&closed.address());
    let both = format!("{away}\nmore_addresses = [\"{broker}\"]");
    cluster.edit("realm.toml", &address(&broker), &both);
    let outcome = cluster.ask(&[]);
    outcome.warns("broker-tcp", "check that it runs");
    outcome.is("broker-mqtt", "ok");

    let wrong = patient("wrong-port");
    let proxy = format!("127.0.0.1:{}", job.world.proxy_port());
    wrong.edit("realm.toml", &broker, &proxy);
    let outcome = wrong.ask(&[]);
    outcome.is("broker-tcp", "ok");
    outcome.is("broker-tls", "error");
    outcome.is("broker-mqtt", "skipped");

    let other = World::new();
    let foreign = patient("foreign-ca");
    let authority = |world: &World| {
        let text = fs::read_to_string(world.realm().join("ca/ca.cert")).unwrap();
        text.trim().to_owned()
    };
    foreign.edit("realm.toml", &authority(&job.world), &authority(&other));
    let outcome = foreign.ask(&[]);
    outcome.blames("certificate", "are of two realms", CONFIGURATION);
    outcome.is("broker-tls", "error");
    outcome.hints("broker-tls", "not who `realm.toml` names");

    let stranger = patient("foreign-certificate");
    let (key, certificate) = (stranger.file("x509.key"), stranger.file("x509.cert"));
    certify(&other, &key, &certificate, (-1, 99));
    let outcome = stranger.ask(&[]);
    outcome.blames("certificate", "are of two realms", CONFIGURATION);
    outcome.is("broker-tls", "ok");
    outcome.is("broker-mqtt", "error");

    let revoked = patient("revoked");
    job.world.run_signer(&["revoke", "controller-a.hula.atlas"]);
    let outcome = wait_until("the broker to know it", CEILING, || {
        // A session that it cuts while we listen is only lost.
        let outcome = revoked.ask(&["333"]);
        let knows = outcome.leg("broker-mqtt")["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("was revoked"));
        if knows {
            Ok(outcome)
        } else {
            Err(outcome.report())
        }
    });
    outcome.blames("broker-mqtt", "was revoked", REFUSED);
    outcome.is("broker-policy", "skipped");
}

#[test]
fn what_is_wrong_with_proxy_and_broker() {
    let mut parts = Parts::start();
    let (world, controller) = (&parts.job.world, &parts.job.controller);
    let patient = |name: &str| Patient::of(world, controller, name);
    let proxy = format!("127.0.0.1:{}", world.proxy_port());

    let silent = SilentServer::start();
    let hanging = patient("hanging");
    hanging.edit("realm.toml", &proxy, &silent.address());
    let outcome = hanging.ask(&[]);
    outcome.blames("proxy-ssh", "the realm's proxy runs", UNAVAILABLE);
    outcome.is("proxy-login", "skipped");

    let changed = patient("changed");
    let key = |path: &Path| {
        let line = fs::read_to_string(path).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let present = key(&world.realm().join("proxy/hostkey.pub"));
    let another = key(&controller.ssh_public_key());
    changed.edit("realm.toml", &present, &another);
    let outcome = changed.ask(&["333"]);
    outcome.blames("proxy-ssh", "host key was changed on purpose", DATA);

    let unknown = patient("unknown-key");
    for kind in ["sshkey", "sshkey.pub"] {
        fs::remove_file(unknown.file(kind)).unwrap();
    }
    let mut keygen = Command::new(tool("ssh-keygen"));
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(unknown.file("sshkey"));
    run(&mut keygen, CEILING).success();
    let outcome = unknown.ask(&["333"]);
    outcome.blames("proxy-login", "does not know this computer's key", REFUSED);
    outcome.is("proxy-ssh", "ok");

    let down = patient("proxy-down");
    parts.proxy.take().unwrap().kill();
    let outcome = down.ask(&["333"]);
    outcome.blames("proxy-tcp", "check that it runs", UNAVAILABLE);
    outcome.is("device", "ok");
    outcome.is("order", "skipped");
    parts.proxy = Some(world.proxy());

    let down = patient("broker-down");
    parts.broker.take().unwrap().kill();
    let outcome = down.ask(&["333"]);
    outcome.blames("broker-tcp", "check that it runs", UNAVAILABLE);
    outcome.is("proxy-login", "ok");
    outcome.is("device", "skipped");

    // Brokers under whose policies a controller may connect, and nothing else. Mosquitto grants every subscription, and tells
    // nothing then; the realm's own says no.
    let outcome = {
        let _mosquitto = Mosquitto::start_open_with(world, "topic write nothing\n");
        patient("not-permitted").ask(&["333"])
    };
    outcome.is("broker-policy", "warning");
    outcome.hints("broker-policy", "`tunnel policies`");
    outcome.blames("device", "tunnel list", REFUSED);
    let policies = world.realm().join("policies");
    fs::create_dir_all(&policies).unwrap();
    let only_connect = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:ACCOUNT:client/*"}]}"#;
    fs::write(policies.join("tunnel.controller.json"), only_connect).unwrap();
    parts.broker = Some(world.broker());
    let outcome = patient("forbidden").ask(&["333"]);
    outcome.blames("broker-policy", "`policies/`", REFUSED);
    outcome.is("broker-mqtt", "ok");
}

/// A port that answers no SYN, because its queue of connections is full: as one behind a firewall.
fn dropping_port() -> (String, (TcpListener, Vec<TcpStream>)) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        held.push(stream);
        assert!(held.len() < 50, "the queue does not fill");
    }
    (address.to_string(), (listener, held))
}
