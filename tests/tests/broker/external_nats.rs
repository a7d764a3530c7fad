//! Agent and controller with a cluster of three nats-servers, set up as `docs/brokers.md` says.

use std::process::Command;

use e2e::{CEILING, Device, Mosquitto, NatsCluster, Outcome, World, run, tool, wait_until};
use rustix::process::Signal;

use super::external::Way;

#[test]
fn a_cluster_serves_while_one_of_three_is_lost() {
    let (mut way, mut cluster) = started();
    way.start_agent();
    way.connect();

    let lost = (0..cluster.len())
        .find(|node| has_the_agent(&way, cluster.port(*node)))
        .expect("the agent is on one of them");
    cluster.kill(lost);
    let agent = way.agent.as_mut().expect("it runs");
    agent.wait_for_line("offline; trying again");
    wait_until("the agent to be online at another one", CEILING, || {
        let log = agent.stderr() + &agent.stdout();
        if log.matches(" online").count() >= 2 {
            Ok(())
        } else {
            Err(log)
        }
    });
    // What the others know is true, and orders go through.
    let entry = way
        .world
        .wait_for_presence(&way.controller, &way.device, true);
    assert_eq!(entry["lost"], false, "{entry}");
    way.connect();
    // A goodbye and a death are told as well with two of three.
    way.stop_agent();
    way.start_agent();
    way.agent.take().expect("it runs").signal(Signal::KILL);
    let entry = way
        .world
        .wait_for_presence(&way.controller, &way.device, false);
    assert_eq!(entry["lost"], true, "{entry}");

    // The lost one comes back and is as good as the others.
    cluster.restart(&way.world, lost);
    way.start_agent();
    way.connect();
}

#[test]
fn who_is_enrolled_later_is_let_in_by_a_reload() {
    let (mut way, cluster) = started();
    let late = way.world.enroll("hula", "444");
    let outcome = say(&way, &late, "atlas/hula/444/tunnel/presence", "early", true);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    cluster.reload(&way.world, &way.rules("nats"));
    wait_until("the new device to be let in", CEILING, || {
        let outcome = say(&way, &late, "atlas/hula/444/tunnel/presence", "late", true);
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(outcome.report())
        }
    });
    way.start_agent();
}

#[test]
fn nobody_says_or_hears_what_he_may_not() {
    let mut way = Way::enrolled(World::new());
    let mut cluster = NatsCluster::reserve(&way.world);
    let (neighbour, other) = (
        way.world.enroll("hula", "334"),
        way.world.enroll("lava", "7"),
    );
    cluster.start(&way.world, &way.rules("nats"));
    let thief = way.device.clone();
    wait_until("the cluster to take a retained message", CEILING, || {
        let outcome = say(
            &way,
            &neighbour,
            "atlas/hula/334/tunnel/presence",
            "own",
            true,
        );
        if outcome.code == Some(0) {
            Ok(())
        } else {
            Err(outcome.report())
        }
    });
    for topic in [
        "atlas/hula/334/tunnel/presence",
        "atlas/hula/334/tunnel/state",
        "atlas/lava/7/tunnel/presence",
        "$MQTT/rmsgs",
        "$JS/API/STREAM/DELETE/$MQTT_msgs",
    ] {
        // MQTT 3.1.1 has no word for a refusal: it may be acknowledged and dropped.
        say(&way, &thief, topic, "forged", true);
    }
    // Another of the cluster's servers may hear of it later.
    let heard = wait_until("the retained message", CEILING, || {
        let heard = listen(&way, &way.controller, "atlas/hula/+/tunnel/presence");
        if heard.stdout.contains("own") {
            Ok(heard)
        } else {
            Err(heard.report())
        }
    });
    assert!(!heard.stdout.contains("forged"), "{}", heard.report());

    for (listener, filter) in [
        (&thief, "#"),
        (&thief, "atlas/hula/334/tunnel/control/+"),
        (&thief, "atlas/hula/+/tunnel/presence"),
        (&thief, "$MQTT/sub/#"),
        (&thief, "+/+/+/+/+/+"),
        (&way.controller, "atlas/lava/+/tunnel/presence"),
        (&way.controller, "#"),
    ] {
        let outcome = listen(&way, listener, filter);
        let refused = outcome.stderr.contains("denied") || outcome.code != Some(0);
        assert!(
            refused && outcome.stdout.is_empty(),
            "{} listens to {filter}: {}",
            listener.id(),
            outcome.report()
        );
    }
    // A system is an account of its own: the same name there is another session.
    say(&way, &other, "atlas/lava/7/tunnel/presence", "far", true);
    let heard = listen(&way, &way.controller, "atlas/hula/+/tunnel/presence");
    assert!(!heard.stdout.contains("far"), "{}", heard.report());

    // A name alone opens no other door: NATS's own protocol is not for devices.
    let hello = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'CONNECT {{\"user\":\"CN=333.hula.atlas,OU=333,O=hula\",\"verbose\":true}}\\r\\nPING\\r\\n' >&3; \
         timeout 5 cat <&3",
        cluster.client_port(0)
    );
    let answer = run(Command::new(tool("bash")).args(["-c", &hello]), CEILING).stdout;
    assert!(answer.contains("Authorization Violation"), "{answer}");
    way.agent = None;
}

/// A revocation can leave nobody, and nats-server takes a file without users for one that lets in everybody.
#[test]
fn a_realm_without_devices_lets_nobody_in() {
    let way = Way::enrolled(World::new());
    let mut cluster = NatsCluster::reserve(&way.world);
    let empty = World::new();
    let mut render = empty.tunnel();
    render
        .args(["policies", "nats", "--dir"])
        .arg(empty.realm());
    cluster.start(&way.world, &run(&mut render, CEILING).success().stdout);
    let hello = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'CONNECT {{\"verbose\":true}}\\r\\nPING\\r\\n' >&3; timeout 5 cat <&3",
        cluster.client_port(0)
    );
    let answer = run(Command::new(tool("bash")).args(["-c", &hello]), CEILING).stdout;
    assert!(answer.contains("Authorization Violation"), "{answer}");
    let topic = "atlas/hula/333/tunnel/presence";
    let outcome = say(&way, &way.device, topic, "still here", true);
    assert_ne!(outcome.code, Some(0), "{}", outcome.report());
    let refused = cluster.log(0).contains("authentication error");
    assert!(refused, "{}", cluster.log(0));
}

/// A cluster with everybody of the way in its accounts.
#[track_caller]
fn started() -> (Way, NatsCluster) {
    let world = World::new();
    let mut cluster = NatsCluster::reserve(&world);
    let way = Way::enrolled(world);
    cluster.start(&way.world, &way.rules("nats"));
    (way, cluster)
}

/// Whether the agent's process has a connection to this port.
fn has_the_agent(way: &Way, port: u16) -> bool {
    let pid = way.agent.as_ref().expect("it runs").pid();
    let mut list = Command::new(tool("ss"));
    list.args(["-tnpH", "dst", &format!("127.0.0.1:{port}")]);
    let found = run(&mut list, CEILING).success().stdout;
    found.contains(&format!("pid={pid},"))
}

#[track_caller]
fn say(way: &Way, device: &Device, topic: &str, text: &str, retain: bool) -> Outcome {
    let mut client = Mosquitto::client("mosquitto_pub", &way.world, device, &device.id());
    client.args(["-q", "1", "-t", topic, "-m", text]);
    if retain {
        client.arg("-r");
    }
    run(&mut client, CEILING)
}

/// What is heard within some seconds: the retained messages, if any.
#[track_caller]
fn listen(way: &Way, device: &Device, filter: &str) -> Outcome {
    let mut client = Mosquitto::client("mosquitto_sub", &way.world, device, &device.id());
    client.args(["-q", "0", "-W", "4", "-t", filter]);
    run(&mut client, CEILING)
}
