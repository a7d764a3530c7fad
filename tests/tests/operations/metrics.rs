//! `/healthz`, `/readyz` and `/metrics` of each daemon.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::Command;

use e2e::github::{Fault, Trouble};
use e2e::{CEILING, Daemon, Session, World, allocated, run, wait_until};

use super::monitored::{Monitored, set};
use crate::enrollment::Stage;
use crate::main_job::Job;

/// One of the realm's daemons, asked at a free port.
#[track_caller]
fn part(world: &World, words: &[&str]) -> (Daemon, Monitored) {
    let mut command = world.tunnel();
    command
        .args(words)
        .args(["--metrics", "127.0.0.1:0", "--dir"]);
    let mut daemon = world.daemon(words[0], command.arg(world.realm()));
    daemon.wait_for_line("ready");
    let monitored = Monitored::of(&mut daemon);
    monitored.wait_for_ready(200);
    (daemon, monitored)
}

/// Starts a job's agent again, asked at a free port.
#[track_caller]
fn watched_agent(job: &mut Job) -> Monitored {
    job.agent.take().unwrap().terminate();
    set(
        &job.device.dir().join("device.toml"),
        "metrics = \"127.0.0.1:0\"",
    );
    let mut agent = job.world.agent(&job.device);
    let monitored = Monitored::of(&mut agent);
    job.agent = Some(agent);
    monitored
}

#[test]
fn every_daemon_answers_in_words_that_prometheus_knows() {
    let world = World::new();
    let (broker, asked_broker) = part(&world, &["broker"]);
    let (proxy, asked_proxy) = part(&world, &["proxy"]);
    let (signer, asked_signer) = part(&world, &["signer", "run"]);
    let mut job = Job::around(world, None, &[]);
    let asked_agent = watched_agent(&mut job);
    for (name, asked) in [
        ("broker", &asked_broker),
        ("proxy", &asked_proxy),
        ("signer", &asked_signer),
        ("agent", &asked_agent),
    ] {
        assert_eq!(asked.get("/healthz"), (200, "ok\n".to_owned()), "{name}");
        assert_eq!(asked.wait_for_ready(200), "ready\n", "{name}");
        let page = asked.page(job.world.folder());
        assert!(page.contains("tunnel_build_info{version=\""), "{page}");
        assert!(page.contains("\nprocess_resident_memory_bytes "), "{page}");
        let own = format!("\ntunnel_{name}_");
        assert!(page.matches(&own).count() > 4, "{page}");
        for other in ["broker", "proxy", "signer", "agent"] {
            assert_eq!(
                page.contains(&format!("\ntunnel_{other}_")),
                other == name,
                "{page}"
            );
        }
        // What grows with the fleet is no label, and no name of anybody leaves the computer.
        let labels: BTreeSet<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once('{')?.1.split_once('=')?.0))
            .collect();
        let fixed = BTreeSet::from(["answer", "le", "outcome", "to", "version"]);
        assert!(labels.is_subset(&fixed), "{labels:?}");
        for name in ["hula", "333", "controller-a", "atlas"] {
            let told = page.lines().any(|line| line.contains(&format!("\"{name}")));
            assert!(!told, "{name} in\n{page}");
        }
    }
    drop((broker, proxy, signer));
}

#[test]
fn the_numbers_follow_what_happens() {
    let world = World::new();
    let (serve, realm) = Monitored::realm(&world);
    assert!(realm.number("tunnel_broker_devices_online").unwrap() < 0.5);
    let mut job = Job::around(world, Some(serve), &[]);
    let agent = watched_agent(&mut job);
    agent.wait_for_ready(200);
    realm.wait_for("tunnel_broker_devices_online", 1.0);
    realm.wait_for("tunnel_proxy_tunnels", 0.0);
    agent.wait_for("tunnel_agent_tunnel_open", 0.0);
    assert!(
        realm
            .number("tunnel_signer_requests_total{outcome=\"signed\"}")
            .unwrap()
            > 1.5
    );
    assert!(
        realm
            .number("tunnel_broker_handshake_duration_seconds_count")
            .unwrap()
            > 1.5
    );
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("hello");
    realm.wait_for("tunnel_proxy_tunnels", 1.0);
    realm.wait_for("tunnel_proxy_streams", 1.0);
    agent.wait_for("tunnel_agent_tunnel_open", 1.0);
    agent.wait_for("tunnel_agent_streams", 1.0);
    assert!(agent.number("tunnel_agent_orders_total").unwrap() > 0.5);
    assert!(
        agent
            .number("tunnel_agent_replies_total{answer=\"opened\"}")
            .unwrap()
            > 0.5
    );
    assert_eq!(session.finish(), Some(0));
    realm.wait_for("tunnel_proxy_streams", 0.0);
    realm.wait_for("tunnel_proxy_opened_streams_total", 1.0);
    wait_until("the bytes to be counted", CEILING, || {
        let bytes = realm.number("tunnel_proxy_stream_bytes_total{to=\"device\"}")?;
        if bytes > 1000.0 {
            Ok(())
        } else {
            Err(bytes.to_string())
        }
    });
    agent.wait_for("tunnel_agent_tunnel_open", 0.0);
    realm.wait_for("tunnel_proxy_tunnels", 0.0);
}

#[test]
fn an_agent_without_its_broker_is_alive_and_not_ready() {
    let mut job = Job::start();
    let agent = watched_agent(&mut job);
    agent.wait_for_ready(200);
    job.serve.take().unwrap().kill();
    let said = agent.wait_for_ready(503);
    assert!(said.starts_with("agent: offline: "), "{said}");
    assert!(said.contains("broker"), "{said}");
    assert_eq!(agent.get("/healthz").0, 200);
    assert!(agent.number("tunnel_agent_ready").unwrap() < 0.5);
    job.serve = Some(job.world.serve());
    agent.wait_for_ready(200);
    assert!(agent.number("tunnel_agent_sessions_total").unwrap() > 1.5);
}

#[test]
fn an_agent_that_waits_for_the_doctor_says_that_it_starts() {
    let mut job = Job::start();
    job.agent.take().unwrap().terminate();
    let mut lock = fs::File::create(job.device.dir().join(".agent.lock")).unwrap();
    lock.lock().unwrap();
    lock.write_all(b"doctor").unwrap();
    set(
        &job.device.dir().join("device.toml"),
        "metrics = \"127.0.0.1:0\"",
    );
    let mut agent = job.world.agent(&job.device);
    let asked = Monitored::of(&mut agent);
    agent.wait_for_line("waiting until it is through");
    let starts = "starting: nobody is served yet\n";
    assert_eq!(asked.get("/readyz"), (503, starts.to_owned()));
    drop(lock);
    asked.wait_for_ready(200);
}

#[test]
fn a_proxy_without_its_keys_says_so() {
    let world = World::new();
    let (proxy, asked) = part(&world, &["proxy"]);
    asked.wait_for_ready(200);
    let (registry, elsewhere) = (world.realm().join("registry"), world.path("elsewhere"));
    fs::rename(&registry, &elsewhere).unwrap();
    let said = asked.wait_for_ready(503);
    assert!(
        said.starts_with("proxy: the devices' keys cannot be read"),
        "{said}"
    );
    // Nobody would be helped by a restart.
    assert_eq!(asked.get("/healthz").0, 200);
    fs::rename(&elsewhere, &registry).unwrap();
    asked.wait_for_ready(200);
    drop(proxy);
}

#[test]
fn a_signer_without_its_registry_says_so() {
    let stage = Stage::new();
    let (signer, asked) = part(&stage.world, &["signer", "run", "--every", "1s"]);
    asked.wait_for_ready(200);
    stage.github.fail(Fault {
        method: "GET",
        path: "/issues",
        after: 0,
        // Each look tries three times.
        times: 9,
        trouble: Trouble::Before(502),
    });
    let said = asked.wait_for_ready(503);
    assert!(
        said.starts_with("signer: the last look into the registry failed: "),
        "{said}"
    );
    assert_eq!(asked.get("/healthz").0, 200);
    asked.wait_for_ready(200);
    assert!(asked.number("tunnel_signer_failed_looks_total").unwrap() > 0.5);
    drop(signer);
}

#[test]
fn a_realm_that_starts_or_stops_is_alive_and_not_ready() {
    let world = World::new();
    // A pipe that nobody writes into is waited for without an end.
    let key = world.realm().join("proxy/hostkey");
    fs::remove_file(&key).unwrap();
    let mut pipe = Command::new("mkfifo");
    run(pipe.args(["-m", "600"]).arg(&key), CEILING).success();
    let mut command = world.tunnel();
    command.args(["serve", "--metrics", "127.0.0.1:0", "--dir"]);
    let mut starting = world.daemon("starting", command.arg(world.realm()));
    let asked = Monitored::of(&mut starting);
    let starts = (503, "starting: nobody is served yet\n".to_owned());
    assert_eq!(asked.get("/readyz"), starts);
    assert_eq!(asked.get("/healthz").0, 200);
    starting.kill();

    let world = World::new();
    let (serve, asked) = Monitored::realm(&world);
    let mut job = Job::around(world, Some(serve), &[]);
    asked.wait_for_ready(200);
    // A stream that is open is what the drain waits for.
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("before");
    let mut serve = job.serve.take().unwrap();
    serve.signal(rustix::process::Signal::TERM);
    assert_eq!(
        asked.wait_for_ready(503),
        "stopping: nobody new is served\n"
    );
    assert_eq!(asked.get("/healthz").0, 200);
    session.echo("behind");
    assert_eq!(session.finish(), Some(0));
    assert_eq!(serve.wait(CEILING).code(), Some(0), "{}", serve.stderr());
}

#[test]
fn nobody_is_asked_unless_it_is_said_where_and_others_only_if_that_is_said_too() {
    let world = World::new();
    let mut serve = world.serve();
    assert!(!serve.stdout().contains("metrics"), "{}", serve.stdout());
    serve.signal(rustix::process::Signal::TERM);
    serve.wait(CEILING);
    let file = world.realm().join("server.toml");
    set(&file, "metrics = \"0.0.0.0:0\"");
    let mut check = world.tunnel();
    check.args(["serve", "--check", "--dir"]).arg(world.realm());
    let refused = run(&mut check, CEILING);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert_eq!(
        refused.lines("error"),
        ["`metrics` would listen on `0.0.0.0:0`, where others than this computer can ask"]
    );
    assert!(refused.lines("hint")[0].contains("`metrics_public = true`"));
    set(&file, "metrics_public = true");
    run(&mut check, CEILING).success();
    let mut serve = world.serve();
    let public = Monitored::of(&mut serve);
    assert!(
        public.address().starts_with("0.0.0.0:"),
        "{}",
        public.address()
    );
}

#[test]
fn an_agent_that_is_asked_needs_hardly_more_memory() {
    let mut job = Job::start();
    let before = allocated(job.agent.as_ref().unwrap().pid());
    let agent = watched_agent(&mut job);
    agent.wait_for_ready(200);
    for _ in 0..20 {
        agent.page(job.world.folder());
    }
    let after = allocated(job.agent.as_ref().unwrap().pid());
    println!("an idle agent: {before} bytes; asked twenty times: {after} bytes");
    assert!(after < before + 2 * 1024 * 1024, "{before} → {after}");
}
