//! Who may do what, and what a stranger learns: nothing.

use broker::{Broker, Limits};
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill, SubscribeReasonCode};

use crate::raw::{Raw, with_will};
use crate::world::{Authority, World, config, presence};

const CONTROLLER: &str = "controller-a.hula.atlas";
const DEVICE: &str = "333.hula.atlas";

#[tokio::test]
async fn a_device_publishes_only_for_itself() {
    let world = World::start();
    let mut observer = world.client(CONTROLLER).await;
    observer.subscribe(&presence("+"), QoS::AtLeastOnce).await;
    let foreign = [
        (DEVICE, "atlas/hula/334/tunnel/presence", true),
        (DEVICE, "atlas/other/333/tunnel/presence", true),
        (DEVICE, "elsewhere/hula/333/tunnel/presence", true),
        (DEVICE, "atlas/hula/334/tunnel/control/333", false),
        (DEVICE, "atlas/hula/333/tunnel/state", true),
        (DEVICE, "atlas/hula/controller-a/tunnel/reply/334", false),
        (DEVICE, "atlas/hula/333", false),
        (DEVICE, "$SYS/broker", false),
        (DEVICE, "é/x", false),
        (
            CONTROLLER,
            "atlas/hula/333/tunnel/control/controller-b",
            false,
        ),
        (
            CONTROLLER,
            "atlas/other/333/tunnel/control/controller-a",
            false,
        ),
        (CONTROLLER, "atlas/hula/333/tunnel/presence", true),
    ];
    for (number, (id, topic, retain)) in foreign.into_iter().enumerate() {
        // Another controller than the observer, which would be taken over.
        let id = if id == CONTROLLER {
            "controller-x.hula.atlas"
        } else {
            id
        };
        let topic = topic.replace(
            "controller-a",
            if id == DEVICE {
                "controller-a"
            } else {
                "controller-x"
            },
        );
        let mut client = world.client(id).await;
        client
            .publish_unanswered(&topic, QoS::AtLeastOnce, retain, "x")
            .await;
        client.closed().await;
        world
            .until(&topic, |count| count.refused_publishes == number as u64 + 1)
            .await;
    }
    observer.quiet().await;
    assert_eq!(
        (world.count().published, world.count().retained_messages),
        (0, 0)
    );
}

#[tokio::test]
async fn a_client_subscribes_only_to_its_own() {
    let world = World::start();
    let mut device = world.client(DEVICE).await;
    let foreign = [
        "#",
        "+/+",
        "+/+/+/tunnel/control/+",
        "$SYS/#",
        "$share/group/atlas/hula/333/tunnel/control/+",
        "atlas/hula/334/tunnel/control/+",
        "atlas/hula/+/tunnel/control/+",
        "atlas/hula/333/#",
        "atlas/other/333/tunnel/control",
        "atlas/hula/333/tunnel/presence",
        "1/2/3/4/5/6/7/8/9",
    ];
    for filter in foreign {
        let code = device.subscribe(filter, QoS::AtLeastOnce).await;
        assert_eq!(code, SubscribeReasonCode::Failure, "{filter}");
    }
    assert_eq!(world.count().refused_filters, foreign.len() as u64);
    // The allowed ones of a list are granted.
    let codes = device
        .subscribe_all(&[
            ("#", QoS::AtLeastOnce),
            ("atlas/hula/333/tunnel/control/+", QoS::AtLeastOnce),
        ])
        .await;
    assert_eq!(
        codes,
        [
            SubscribeReasonCode::Failure,
            SubscribeReasonCode::Success(QoS::AtLeastOnce)
        ]
    );
}

/// Systems never see each other, whatever is subscribed to.
#[tokio::test]
async fn another_systems_messages_are_not_delivered() {
    let world = World::start();
    let mut controller = world.client(CONTROLLER).await;
    let codes = controller
        .subscribe_all(&[
            ("atlas/hula/+/tunnel/presence", QoS::AtLeastOnce),
            ("atlas/other/+/tunnel/presence", QoS::AtLeastOnce),
            ("atlas/+/+/tunnel/presence", QoS::AtLeastOnce),
        ])
        .await;
    let expected = [
        SubscribeReasonCode::Success(QoS::AtLeastOnce),
        SubscribeReasonCode::Failure,
        SubscribeReasonCode::Failure,
    ];
    assert_eq!(codes, expected);
    let mut foreign = world.client("333.other.atlas").await;
    let topic = "atlas/other/333/tunnel/presence";
    foreign
        .publish(topic, QoS::AtLeastOnce, true, "secret")
        .await;
    controller.quiet().await;
}

#[tokio::test]
async fn insisting_on_foreign_filters_ends_the_connection() {
    let world = World::with(Limits {
        refused_filters: 3,
        ..Limits::default()
    });
    let mut device = world.client(DEVICE).await;
    for _ in 0..3 {
        device.subscribe("#", QoS::AtLeastOnce).await;
    }
    assert_eq!(
        device.subscribe("#", QoS::AtLeastOnce).await,
        SubscribeReasonCode::Failure
    );
    device.closed().await;
}

#[tokio::test]
async fn a_foreign_will_is_refused_with_its_connect() {
    let world = World::start();
    let state = "atlas/hula/333/tunnel/state";
    for (topic, retain) in [
        (presence(334), true),
        ("$SYS/x".to_owned(), false),
        (state.to_owned(), true),
        ("1/2/3/4/5/6/7/8/9".to_owned(), false),
    ] {
        let mut connect = Connect::new(DEVICE);
        connect.last_will = Some(LastWill::new(&topic, "x", QoS::AtLeastOnce, retain));
        let mut client = world.raw(DEVICE).await;
        assert_eq!(
            client.connect_with(connect).await,
            Err(ConnectReturnCode::NotAuthorized),
            "{topic}"
        );
        client.closed().await;
    }
    assert_eq!((world.count().refused_wills, world.count().wills), (4, 0));
    // A refused CONNECT is not one: it takes nothing over.
    let mut device = world.raw(DEVICE).await;
    device
        .connect_with(with_will(DEVICE, &presence(333), "x"))
        .await
        .unwrap();
    let mut second = world.raw(DEVICE).await;
    assert!(
        second
            .connect_with(with_will(DEVICE, &presence(334), "x"))
            .await
            .is_err()
    );
    device.quiet().await;
}

#[tokio::test]
async fn a_client_id_is_its_certificates() {
    let world = World::start();
    let mut victim = world.client("334.hula.atlas").await;
    for id in [
        "334.hula.atlas",
        "nobody.hula.atlas",
        "",
        "333",
        "333.HULA.atlas",
        "a/b",
        "+",
        "#",
        "$x",
        CONTROLLER,
    ] {
        let mut client = world.raw(DEVICE).await;
        assert_eq!(
            client.connect_with(Connect::new(id)).await,
            Err(ConnectReturnCode::BadClientId),
            "{id}"
        );
        client.closed().await;
    }
    victim.quiet().await;
    world.client(DEVICE).await.quiet().await;
}

/// What a stranger asks for is answered alike whether it exists or not.
#[tokio::test]
async fn nobody_learns_who_exists() {
    let world = World::start();
    let mut there = world.raw("334.hula.atlas").await;
    there
        .connect_with(with_will("334.hula.atlas", &presence(334), "x"))
        .await
        .unwrap();
    there
        .publish(&presence(334), QoS::AtLeastOnce, true, "x")
        .await;
    let mut answers = Vec::new();
    for name in ["334", "nobody"] {
        let mut device = world.client(DEVICE).await;
        device.subscribe(&presence(name), QoS::AtLeastOnce).await;
        device
            .publish_unanswered(&presence(name), QoS::AtLeastOnce, true, "x")
            .await;
        let after = device.rest().await;
        let mut device = world.raw(DEVICE).await;
        let connect = device
            .connect_with(Connect::new(format!("{name}.hula.atlas")))
            .await;
        answers.push((after, connect));
    }
    assert_eq!(answers[0], answers[1]);
    there.quiet().await;
}

#[tokio::test]
async fn only_the_realms_authorities_count_and_all_of_them() {
    let (first, second, stranger) = (
        Authority::new("one"),
        Authority::new("two"),
        Authority::new("three"),
    );
    let bundle = format!("{}{}", first.pem(), second.pem());
    let broker = Broker::bind(config(&first, &bundle, Limits::default())).unwrap();
    let world = World::of(first, broker);
    for authority in [&world.authority, &second] {
        let tls = world.authority.client(Some(&authority.device(DEVICE)));
        let mut device = Raw::open(world.address, tls).await.unwrap();
        device.connect(DEVICE).await;
    }
    for identity in [Some(stranger.device(DEVICE)), None] {
        let tls = world.authority.client(identity.as_ref());
        // With TLS 1.3 the client learns it only when it reads.
        if let Ok(mut device) = Raw::open(world.address, tls).await {
            device.bytes(b"\xc0\x00").await;
            device.closed().await;
        }
    }
    world
        .until("both are refused", |count| count.refused_certificates == 2)
        .await;
}

#[tokio::test]
async fn a_certificate_that_is_no_devices_of_the_realm_is_refused() {
    let world = World::start();
    let (cn, o, ou) = (
        DnType::CommonName,
        DnType::OrganizationName,
        DnType::OrganizationalUnitName,
    );
    let subjects: [&[(DnType, &str)]; 4] = [
        &[
            (cn.clone(), "333.hula.elsewhere"),
            (o.clone(), "hula"),
            (ou.clone(), "333"),
        ],
        &[
            (cn.clone(), "333.hula.atlas"),
            (o.clone(), "other"),
            (ou.clone(), "333"),
        ],
        &[(cn.clone(), "333.hula.atlas"), (o.clone(), "hula")],
        &[(cn, "a/b.hula.atlas"), (o, "hula"), (ou, "a/b")],
    ];
    for subject in subjects {
        let identity = world
            .authority
            .sign(subject, ExtendedKeyUsagePurpose::ClientAuth);
        let mut device = Raw::open(world.address, world.authority.client(Some(&identity)))
            .await
            .unwrap();
        let connect = Connect::new(subject[0].1);
        assert_eq!(
            device.connect_with(connect).await,
            Err(ConnectReturnCode::NotAuthorized)
        );
        device.closed().await;
    }
    assert_eq!(world.count().refused_peers, 4);
    // A server's certificate is no client's.
    let identity = world.authority.sign(
        &[
            (DnType::CommonName, DEVICE),
            (DnType::OrganizationName, "hula"),
            (DnType::OrganizationalUnitName, "333"),
        ],
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    if let Ok(mut device) = Raw::open(world.address, world.authority.client(Some(&identity))).await
    {
        device.bytes(b"\xc0\x00").await;
        device.closed().await;
    }
    world
        .until("it is refused", |count| count.refused_certificates == 1)
        .await;
}

#[tokio::test]
async fn sessions_are_bounded() {
    let world = World::with(Limits {
        sessions: 2,
        ..Limits::default()
    });
    let first = world.client("1.hula.atlas").await;
    let mut second = world.client("2.hula.atlas").await;
    let mut third = world.raw("3.hula.atlas").await;
    let refused = third.connect_with(Connect::new("3.hula.atlas")).await;
    assert_eq!(refused, Err(ConnectReturnCode::ServiceUnavailable));
    // Who has one may come again.
    world.client("1.hula.atlas").await.disconnect().await;
    drop(first);
    second.quiet().await;
    world
        .until("there is room", |count| count.sessions == 1)
        .await;
    world.client("3.hula.atlas").await.quiet().await;
}
