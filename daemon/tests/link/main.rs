//! The link to the broker, with brokers that do what the test says: real TLS and MQTT, on the loopback interface.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking; the lints excuse only test functions, not what these share"
)]

mod broker;

use std::future::Future;
use std::time::Duration;

use daemon::host_port::HostPort;
use daemon::mqtt::{Link, LinkError, LinkEvent, Message};
use daemon::shutdown::Shutdown;
use protocol::Epoch;
use protocol::limits::MAX_PAYLOAD;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, SubAck, SubscribeReasonCode,
};
use tokio::net::TcpSocket;
use tokio::task::yield_now;
use tokio::time::{Instant, pause, timeout};

use self::broker::{FILTERS, GRANTED, ScriptedBroker};

const TOPIC: &str = "atlas/hula/333/said";

#[tokio::test]
async fn the_first_message_waits_for_nothing_and_can_be_taken_back() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link_with(vec![broker.address()], Some(message("first")));
    let (mut session, _) = broker.met().await;
    // Nothing is answered, and both are there, in this order.
    let Some(Packet::Subscribe(subscribe)) = session.next().await else {
        panic!("no SUBSCRIBE");
    };
    let Some(Packet::Publish(first)) = session.next().await else {
        panic!("no message");
    };
    assert_eq!(first.payload, "first");
    session.accept().await;
    session.send(Packet::PubAck(PubAck::new(first.pkid))).await;
    let answer = SubAck::new(subscribe.pkid, GRANTED.to_vec());
    session.send(Packet::SubAck(answer)).await;
    up(&mut link).await;
    // It belongs to the first session alone.
    drop(session);
    down(&mut link).await;
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    link.publisher().publish(message("second"));
    assert_eq!(session.published().await, "second");
    drop(link);

    // Before the subscription is answered, a goodbye is said all the same.
    let link = broker.link_with(vec![broker.address()], Some(message("order")));
    let (mut session, _) = broker.accept().await;
    assert!(matches!(session.next().await, Some(Packet::Subscribe(_))));
    assert_eq!(session.published().await, "order");
    let (goodbye, said) = tokio::join!(link.finish(Some(message("taken back"))), async {
        let said = session.published().await;
        session.closed().await;
        said
    });
    let () = goodbye;
    assert_eq!(said, "taken back");
}

#[tokio::test]
async fn without_a_first_message_the_broker_is_waited_for() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.met().await;
    session.is_silent().await;
    session.accept().await;
    session.subscribed(&GRANTED).await;
    up(&mut link).await;
}

/// Some brokers end a session whose client sends anything before CONNACK, or leave it out, although MQTT 3.1.1 permits it.
#[tokio::test]
async fn a_broker_that_wants_to_be_waited_for_is() {
    for accepts in [false, true] {
        let broker = ScriptedBroker::start().await;
        let mut link = broker.link_with(vec![broker.address()], Some(message("first")));
        let (mut session, _) = broker.met().await;
        assert!(matches!(session.next().await, Some(Packet::Subscribe(_))));
        let left_out = if accepts {
            session.accept().await;
            Some(session)
        } else {
            drop(session);
            None
        };
        let (mut session, _) = broker.met().await;
        session.is_silent().await;
        session.accept().await;
        session.subscribed(&GRANTED).await;
        assert_eq!(session.published().await, "first");
        up(&mut link).await;
        drop(left_out);
    }
}

#[tokio::test]
async fn a_broker_that_refuses_is_not_met_again_at_once() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link_with(vec![broker.address()], Some(message("first")));
    let (mut session, _) = broker.met().await;
    let refused = ConnAck::new(ConnectReturnCode::NotAuthorized, false);
    session.send(Packet::ConnAck(refused)).await;
    let error = down(&mut link).await;
    assert!(matches!(error, LinkError::Refused { .. }), "{error}");
    // Whoever is told that there is no session decides anew what to say in the next.
    let (mut session, _) = broker.met().await;
    session.is_silent().await;
    session.accept().await;
    session.subscribed(&GRANTED).await;
    up(&mut link).await;
    session.is_silent().await;
}

#[tokio::test]
async fn it_comes_back_by_itself_with_a_larger_epoch() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let (session, connect) = broker.session().await;
        let epoch = up(&mut link).await;
        // The will is of the session that it ends.
        let will = connect.last_will.unwrap();
        assert_eq!(will.message, epoch.0.to_string());
        assert!(connect.clean_session);
        epochs.push(epoch);
        // No DISCONNECT and no close of TLS: the broker was killed.
        drop(session);
        let error = down(&mut link).await;
        assert!(matches!(error, LinkError::Lost { .. }), "{error}");
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

#[tokio::test]
async fn a_computer_of_the_cluster_that_is_gone_is_passed_over() {
    let broker = ScriptedBroker::start().await;
    // Bound for as long as the test lasts: nobody listens there, and nobody else will.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone: HostPort = bound.local_addr().unwrap().to_string().parse().unwrap();
    for brokers in [
        vec![gone.clone(), broker.address()],
        vec![broker.address(), gone.clone()],
        vec![gone.clone(), gone.clone(), broker.address()],
    ] {
        let mut link = broker.link_to(brokers);
        let (session, _) = broker.session().await;
        up(&mut link).await;
        drop(session);
        // The session that was up is told of; the next begins where it was, or passes over again.
        down(&mut link).await;
        let (_session, _) = broker.session().await;
        up(&mut link).await;
    }
    let mut link = broker.link_to(vec![gone.clone(), gone]);
    let error = down(&mut link).await;
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    let mut link = broker.link_to(Vec::new());
    let error = down(&mut link).await;
    assert!(matches!(error, LinkError::NoBroker), "{error}");
}

#[tokio::test]
async fn a_computer_of_the_cluster_that_refuses_is_passed_over() {
    let (refusing, broker) = (ScriptedBroker::start().await, ScriptedBroker::start().await);
    // Whichever the client begins with, it ends at the one that takes it. They do not know each other's certificate.
    let mut link = broker.link_to(vec![refusing.address(), broker.address()]);
    let refuse = async {
        loop {
            let (stream, _) = refusing.listener.accept().await.unwrap();
            drop(stream);
        }
    };
    let (_session, _) = tokio::select! {
        never = refuse => never,
        session = broker.session() => session,
    };
    up(&mut link).await;
}

#[tokio::test]
async fn what_is_published_without_a_session_is_dropped() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let publisher = link.publisher();
    publisher.publish(message("before the first"));
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    publisher.publish(message("first"));
    assert_eq!(session.published().await, "first");
    drop(session);
    down(&mut link).await;
    publisher.publish(message("between the two"));
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    publisher.publish(message("second"));
    assert_eq!(session.published().await, "second");
}

#[tokio::test]
async fn a_refused_subscription_is_named() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.accept().await;
    session
        .subscribed(&[
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
            SubscribeReasonCode::Failure,
        ])
        .await;
    match down(&mut link).await {
        LinkError::SubscriptionRefused { filter, .. } => assert_eq!(filter, FILTERS[1]),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_broker_that_never_answers_the_subscription_is_silent() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.accept().await;
    let subscribe = session.next().await;
    assert!(matches!(subscribe, Some(Packet::Subscribe(_))));
    // It is there otherwise, and answers whatever else comes.
    let owner = Shutdown::new(Duration::ZERO);
    owner.spawn(async move {
        while let Some(packet) = session.next().await {
            if packet == Packet::PingReq {
                session.send(Packet::PingResp).await;
            }
        }
    });
    pause();
    let began = Instant::now();
    let error = down(&mut link).await;
    assert!(matches!(error, LinkError::Silent { .. }), "{error}");
    // Before the first keepalive: it is not that which noticed.
    assert!(began.elapsed() <= Duration::from_secs(11));
}

#[tokio::test]
async fn a_payload_over_the_cap_is_for_its_decoder_to_refuse() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    session.publish(&"x".repeat(MAX_PAYLOAD + 1)).await;
    session.publish("the link goes on").await;
    assert_eq!(text(&mut link).await.len(), MAX_PAYLOAD + 1);
    assert_eq!(text(&mut link).await, "the link goes on");
}

#[tokio::test]
async fn a_goodbye_is_the_last_message_and_a_disconnect() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    link.publisher().publish(message("something"));
    let goodbye = async {
        link.finish(Some(message("goodbye"))).await;
        broker.shutdown.request();
        assert!(broker.shutdown.drained().await, "the task has ended");
    };
    let heard = async {
        assert_eq!(session.published().await, "something");
        assert_eq!(session.published().await, "goodbye");
        assert_eq!(session.next().await, Some(Packet::Disconnect));
        assert_eq!(session.next().await, None);
    };
    in_time(async { tokio::join!(goodbye, heard) }).await;
}

/// 100 messages wait for an acknowledgement and as many as there is room for behind them: not even the wish to finish
/// has room.
#[tokio::test]
async fn a_goodbye_that_nobody_takes_is_cut() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    let publisher = link.publisher();
    for number in 0..100 {
        publisher.publish(message(&number.to_string()));
        assert!(matches!(session.next().await, Some(Packet::Publish(_))));
    }
    for _ in 0..200 {
        publisher.publish(message("waits"));
        yield_now().await;
    }
    let began = Instant::now();
    in_time(link.finish(Some(message("goodbye")))).await;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    broker.shutdown.request();
    assert!(broker.shutdown.drained().await, "the task has ended");
}

/// More than any queue of the link holds; the broker has to wait instead.
#[tokio::test]
async fn a_busy_owner_loses_nothing() {
    const MANY: usize = 10_000;
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    let sender = Shutdown::new(Duration::ZERO);
    let mut sending = sender.spawn(async move {
        for number in 0..MANY {
            session.publish(&format!("{number} {:1000}", "")).await;
        }
        session
    });
    // Until all is sent, or no more can be: that is when the pause of the owner begins to count.
    drop(timeout(Duration::from_secs(2), &mut sending).await);
    for number in 0..MANY {
        assert_eq!(text(&mut link).await.trim_end(), number.to_string());
    }
}

#[tokio::test]
async fn an_owner_that_takes_nothing_ends_the_session() {
    let broker = ScriptedBroker::start().await;
    let mut link = broker.link();
    let (mut session, _) = broker.session().await;
    up(&mut link).await;
    for number in 0..1000 {
        session.publish(&number.to_string()).await;
    }
    pause();
    // The broker sees the end before it would have to end the session itself.
    let began = Instant::now();
    in_time(session.closed()).await;
    assert!(
        began.elapsed() < Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    let mut taken = 0;
    let error = loop {
        match in_time(link.next()).await {
            Some(LinkEvent::Message { .. }) => taken += 1,
            Some(LinkEvent::Down(error)) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(error, LinkError::Overloaded { .. }), "{error}");
    assert!((1..1000).contains(&taken), "{taken}");
}

fn message(text: &str) -> Message {
    Message {
        topic: TOPIC.to_owned(),
        payload: text.as_bytes().to_vec(),
        retain: false,
    }
}

async fn up(link: &mut Link) -> Epoch {
    match in_time(link.next()).await {
        Some(LinkEvent::Up { epoch }) => epoch,
        other => panic!("not up but {other:?}"),
    }
}

async fn down(link: &mut Link) -> LinkError {
    match in_time(link.next()).await {
        Some(LinkEvent::Down(error)) => error,
        other => panic!("not down but {other:?}"),
    }
}

async fn text(link: &mut Link) -> String {
    match in_time(link.next()).await {
        Some(LinkEvent::Message { payload, .. }) => String::from_utf8(payload.to_vec()).unwrap(),
        other => panic!("no message but {other:?}"),
    }
}

/// A test that would hang fails instead.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_mins(1), what)
        .await
        .expect("it happens in time")
}
