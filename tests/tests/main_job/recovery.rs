//! kill -9 of each part in the middle of a session, and the way back without anybody's help.

use std::time::Duration;

use e2e::{CEILING, Session, Stopwatch, run, wait_until};
use rustix::process::Signal;

use super::{Job, Parts};

#[test]
fn the_agent_finds_a_restarted_broker() {
    let mut parts = Parts::start();
    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("before");
    parts.broker.take().unwrap().kill();
    // What is connected does not need the broker.
    session.echo("without a broker");
    let outcome = run(&mut parts.job.connect("true"), CEILING);
    assert_eq!(outcome.code, Some(69), "{}", outcome.report());
    parts.broker = Some(parts.job.world.broker());
    let watch = Stopwatch::start();
    parts
        .job
        .world
        .wait_for_presence(&parts.job.controller, &parts.job.device, true);
    println!(
        "broker restarted: presence true again after {:?}",
        watch.elapsed()
    );
    connects(&parts.job, "broker restarted", watch);
    session.echo("after");
    assert_eq!(session.finish(), Some(0));
}

#[test]
fn the_tunnel_comes_back_through_a_restarted_proxy() {
    let mut parts = Parts::start();
    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("before");
    parts.proxy.take().unwrap().kill();
    // A stream through a dead proxy ends; it does not hang.
    assert_ne!(session.wait(CEILING), Some(0));
    let outcome = run(&mut parts.job.connect("true"), CEILING);
    assert_eq!(outcome.code, Some(69), "{}", outcome.report());
    parts.proxy = Some(parts.job.world.proxy());
    let watch = Stopwatch::start();
    connects(&parts.job, "proxy restarted", watch);
    let listed = parts
        .job
        .world
        .wait_for_presence(&parts.job.controller, &parts.job.device, true);
    assert_eq!(listed["lost"], false, "{listed}");
}

#[test]
fn a_killed_agent_is_seen_and_its_successor_serves() {
    let mut parts = Parts::start();
    let mut session = Session::start(&mut parts.job.connect("cat"));
    session.echo("before");
    let watch = Stopwatch::start();
    parts.job.agent.take().unwrap().kill();
    assert_ne!(session.wait(CEILING), Some(0));
    println!(
        "agent killed: the session ended after {:?}",
        watch.elapsed()
    );
    let listed = parts
        .job
        .world
        .wait_for_presence(&parts.job.controller, &parts.job.device, false);
    println!("agent killed: seen offline after {:?}", watch.elapsed());
    assert_eq!(
        listed["lost"], true,
        "a crash is no clean goodbye: {listed}"
    );
    parts.job.agent = Some(parts.job.world.agent(&parts.job.device));
    let watch = Stopwatch::start();
    parts
        .job
        .world
        .wait_for_presence(&parts.job.controller, &parts.job.device, true);
    println!(
        "agent restarted: presence true again after {:?}",
        watch.elapsed()
    );
    connects(&parts.job, "agent restarted", watch);
}

#[test]
fn everything_comes_back_when_the_whole_server_was_killed() {
    let mut job = Job::start();
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("before");
    job.serve.take().unwrap().kill();
    assert_ne!(session.wait(CEILING), Some(0));
    let outcome = run(&mut job.connect("true"), CEILING);
    assert_eq!(outcome.code, Some(69), "{}", outcome.report());
    job.serve = Some(job.world.serve());
    let watch = Stopwatch::start();
    let listed = job
        .world
        .wait_for_presence(&job.controller, &job.device, true);
    assert_eq!(listed["lost"], false, "{listed}");
    println!(
        "server restarted: presence true again after {:?}",
        watch.elapsed()
    );
    connects(&job, "server restarted", watch);
}

#[test]
fn a_stalled_proxy_is_noticed_and_all_works_when_it_goes_on() {
    let parts = Parts::start();
    let (job, proxy) = (&parts.job, parts.proxy.as_ref().unwrap());
    let mut session = Session::start(&mut job.connect("cat"));
    session.echo("before");
    proxy.signal(Signal::STOP);
    let watch = Stopwatch::start();
    assert_ne!(session.wait(SILENCE), Some(0));
    println!(
        "proxy stalled: the session ended after {:?}",
        watch.elapsed()
    );
    let agent = job.agent.as_ref().unwrap();
    let left = SILENCE.saturating_sub(watch.elapsed());
    wait_until("the agent to notice", left, || {
        let log = agent.stderr();
        if log.contains("a connection to the proxy has ended") {
            Ok(())
        } else {
            Err(log)
        }
    });
    println!("proxy stalled: the agent knew after {:?}", watch.elapsed());
    proxy.signal(Signal::CONT);
    let watch = Stopwatch::start();
    connects(job, "proxy went on", watch);
    let listed = job
        .world
        .wait_for_presence(&job.controller, &job.device, true);
    assert_eq!(listed["lost"], false, "{listed}");
}

#[test]
fn an_agent_that_starts_before_its_broker_waits_for_it() {
    let mut parts = Parts::start();
    parts.job.agent.take().unwrap().terminate();
    parts.broker.take().unwrap().kill();
    let mut agent = parts.job.world.agent(&parts.job.device);
    // It has tried and failed at least once.
    wait_until("a failed try in the agent's log", CEILING, || {
        assert!(
            agent.has_ended().is_none(),
            "an agent never gives up: {}",
            agent.stderr()
        );
        let log = agent.stderr();
        if log.lines().any(|line| line.contains("broker")) {
            Ok(())
        } else {
            Err(log)
        }
    });
    parts.broker = Some(parts.job.world.broker());
    let watch = Stopwatch::start();
    parts.job.agent = Some(agent);
    parts
        .job
        .world
        .wait_for_presence(&parts.job.controller, &parts.job.device, true);
    connects(&parts.job, "broker started after the agent", watch);
}

/// A new session works; prints how long after `watch` began that was.
#[track_caller]
fn connects(job: &Job, what: &str, watch: Stopwatch) {
    let outcome = wait_until("a new session to work", CEILING, || {
        let outcome = run(&mut job.connect("echo works"), CEILING);
        if outcome.code == Some(0) {
            Ok(outcome)
        } else {
            Err(outcome.report())
        }
    });
    assert_eq!(outcome.stdout, "works\n");
    let took: Duration = watch.elapsed();
    println!("{what}: a new connect worked after {took:?}");
}

/// The ten seconds after which a proxy that says nothing counts as gone, and what a loaded machine adds.
const SILENCE: Duration = Duration::from_secs(25);
