//! A link that was away for long, and a tunnel with a live lease: it is there again within seconds of the link.

use std::time::Duration;

use e2e::{CEILING, Session, Stopwatch, current_user, original_order, run, wait_until};

use super::remote::Remote;

#[test]
fn a_leased_tunnel_is_back_within_seconds_of_a_cut_that_the_broker_has_not_noticed() {
    back_after(Duration::from_secs(20));
}

/// By then the broker has given the session up, tells everybody that the computer is offline, and all pauses have grown.
#[test]
fn a_leased_tunnel_is_back_within_seconds_of_a_cut_that_the_broker_has_noticed() {
    let remote = back_after(Duration::from_secs(50));
    let log = remote.serve.stderr();
    assert!(log.contains("the client was silent for too long"), "{log}");
}

/// Cuts the link for so long under a lease, and shows that streams are served again as soon as it is back, and orders are.
#[track_caller]
fn back_after(cut: Duration) -> Remote {
    let remote = Remote::start();
    let (world, device, controller) = (&remote.world, &remote.device, &remote.controller);
    // The original's word, whose lease lasts for minutes without a stream.
    let connected = "connected|port=";
    let state = original_order(world, controller, device, "connect", connected, CEILING);
    let port = state[connected.len()..].to_owned();
    let stream = || {
        let session =
            Session::start(&mut world.tunnel_as(controller, &["stdio", "--port", &port, "333"]));
        session.hear(BACK)
    };
    assert!(stream().unwrap().starts_with("SSH-2.0-OpenSSH"));

    remote.link.rule("drop");
    let watch = Stopwatch::start();
    wait_until("the agent to notice the cut", CEILING, || {
        let log = remote.agent.stderr();
        log.contains("no connection to the proxy")
            .then_some(())
            .ok_or(log)
    });
    wait_until("the end of the cut", cut, || {
        let left = cut.checked_sub(watch.elapsed());
        left.map_or(Ok(()), |left| Err(format!("{left:?} left")))
    });
    remote.link.rule("");
    let watch = Stopwatch::start();
    let banner = stream();
    let streams = watch.elapsed();
    assert!(
        banner
            .as_ref()
            .is_ok_and(|line| line.starts_with("SSH-2.0-OpenSSH")),
        "{banner:?}"
    );
    let whom = format!("{}@333", current_user());
    wait_until("an order to be served", CEILING, || {
        let outcome = run(
            &mut world.tunnel_as(controller, &["connect", &whom, "--", "true"]),
            CEILING,
        );
        (outcome.code == Some(0))
            .then_some(())
            .ok_or(outcome.report())
    });
    let orders = watch.elapsed();
    println!(
        "after {cut:?} without a link: a stream by the lease's port after {streams:?}, an order served after {orders:?}"
    );
    assert!(streams < BACK, "{streams:?}");
    remote
}

/// How soon after its link a stream is there again. An order waits for the broker's line too, and has no bound of its own here.
const BACK: Duration = Duration::from_secs(10);
