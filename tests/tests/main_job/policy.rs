//! A device or controller with a good certificate that does what it may not: the same table against the embedded broker
//! and against mosquitto with the rules that we render for it.
//!
//! They refuse differently. The embedded broker says no (SUBACK 0x80, CONNACK) or closes the connection. mosquitto has no
//! way to say no to a PUBLISH in MQTT 3.1.1 and says yes to every SUBSCRIBE, and drops. What counts is the same for both:
//! nobody ever hears what he may not, and nobody ever hears what its sender may not say.

use e2e::World;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::LastWill;

use super::stage::Stage;
use super::wire::{Answer, Wire};

/// Who says what he may not: (sender, topic, retained).
const FORBIDDEN_TO_SAY: &[(&str, &str, bool)] = &[
    // A device in another's name, to its neighbours and to controllers.
    ("333", "atlas/hula/334/tunnel/presence", true),
    ("333", "atlas/hula/334/tunnel/presence", false),
    ("333", "atlas/hula/334/tunnel/state", false),
    ("333", "atlas/hula/controller-a/tunnel/reply/334", false),
    ("333", "atlas/hula/controller-a/tunnel/presence", true),
    // A device that orders.
    ("333", "atlas/hula/334/tunnel/control", false),
    ("333", "atlas/hula/334/tunnel/control/333", false),
    ("333", "atlas/hula/334/tunnel/control/controller-a", false),
    ("333", "atlas/hula/333/tunnel/control/controller-a", false),
    ("333", "atlas/hula/333/tunnel/control", false),
    ("333", "atlas/hula/334/tunnel/reply/333", false),
    // A device beyond its system and its realm.
    ("333", "atlas/lava/7/tunnel/presence", true),
    ("333", "atlas/lava/7/tunnel/control/controller-x", false),
    ("333", "atlas/lava/controller-x/tunnel/reply/333", false),
    ("333", "atlas/lava/controller-x/tunnel/reply/7", false),
    ("333", "other/hula/333/tunnel/presence", true),
    ("333", "$SYS/broker/version", true),
    // A controller in another's name, and as a device.
    (
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-b",
        false,
    ),
    ("controller-a", "atlas/hula/333/tunnel/presence", true),
    ("controller-a", "atlas/hula/333/tunnel/state", false),
    (
        "controller-a",
        "atlas/hula/controller-b/tunnel/reply/333",
        false,
    ),
    (
        "controller-a",
        "atlas/hula/controller-b/tunnel/reply/controller-a",
        false,
    ),
    // A controller beyond its system.
    (
        "controller-a",
        "atlas/lava/7/tunnel/control/controller-a",
        false,
    ),
    (
        "controller-a",
        "atlas/lava/7/tunnel/control/controller-x",
        false,
    ),
    ("controller-a", "atlas/lava/7/tunnel/control", false),
    ("controller-a", "atlas/lava/7/tunnel/presence", true),
    // Topics beside the tree.
    ("controller-a", "atlas/hula/334/tunnel", false),
    (
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a/more",
        false,
    ),
];

/// Who listens to what he may not: (listener, filter, who says something there that is permitted, on this topic).
const FORBIDDEN_TO_HEAR: &[(&str, &str, &str, &str)] = &[
    (
        "333",
        "atlas/hula/334/tunnel/control/+",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "atlas/hula/334/tunnel/control/controller-a",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "atlas/hula/334/tunnel/control",
        "controller-a",
        "atlas/hula/334/tunnel/control",
    ),
    (
        "333",
        "atlas/hula/+/tunnel/control/+",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "#",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "atlas/#",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "+/+/+/+/+/+",
        "controller-a",
        "atlas/hula/334/tunnel/control/controller-a",
    ),
    (
        "333",
        "atlas/hula/#",
        "334",
        "atlas/hula/334/tunnel/presence",
    ),
    (
        "333",
        "atlas/hula/334/tunnel/presence",
        "334",
        "atlas/hula/334/tunnel/presence",
    ),
    (
        "333",
        "atlas/hula/+/tunnel/state",
        "334",
        "atlas/hula/334/tunnel/state",
    ),
    (
        "333",
        "atlas/hula/controller-a/tunnel/reply/+",
        "334",
        "atlas/hula/controller-a/tunnel/reply/334",
    ),
    (
        "333",
        "atlas/lava/7/tunnel/control/+",
        "controller-x",
        "atlas/lava/7/tunnel/control/controller-x",
    ),
    (
        "controller-a",
        "atlas/hula/controller-b/tunnel/reply/+",
        "334",
        "atlas/hula/controller-b/tunnel/reply/334",
    ),
    (
        "controller-a",
        "atlas/hula/+/tunnel/reply/+",
        "334",
        "atlas/hula/controller-b/tunnel/reply/334",
    ),
    (
        "controller-a",
        "atlas/hula/334/tunnel/control/+",
        "controller-b",
        "atlas/hula/334/tunnel/control/controller-b",
    ),
    (
        "controller-a",
        "atlas/+/+/tunnel/presence",
        "7",
        "atlas/lava/7/tunnel/presence",
    ),
    (
        "controller-a",
        "atlas/lava/7/tunnel/presence",
        "7",
        "atlas/lava/7/tunnel/presence",
    ),
    (
        "controller-a",
        "+/+/+/tunnel/presence",
        "7",
        "atlas/lava/7/tunnel/presence",
    ),
    (
        "controller-a",
        "#",
        "7",
        "atlas/lava/controller-x/tunnel/reply/7",
    ),
];

#[test]
fn the_embedded_broker_refuses_every_forbidden_publish() {
    let mut stage = Stage::embedded();
    for &(sender, topic, retain) in FORBIDDEN_TO_SAY {
        let answer = stage.say(sender, topic, retain);
        assert_eq!(answer, Answer::Closed, "{sender} says something on {topic}");
    }
    stage.newcomers_hear_nothing_forbidden();
}

#[test]
fn mosquitto_with_our_rules_delivers_no_forbidden_publish() {
    let mut stage = Stage::mosquitto();
    for &(sender, topic, retain) in FORBIDDEN_TO_SAY {
        let answer = stage.say(sender, topic, retain);
        assert_eq!(
            answer,
            Answer::Yes,
            "MQTT 3.1.1 has no other answer: {sender}, {topic}"
        );
    }
    stage.newcomers_hear_nothing_forbidden();
}

#[test]
fn the_embedded_broker_refuses_every_forbidden_subscription() {
    let mut stage = Stage::embedded();
    for &(listener, filter, speaker, topic) in FORBIDDEN_TO_HEAR {
        let answer = stage.listen(listener, filter, speaker, topic);
        assert_eq!(answer, Answer::No, "{listener} subscribes to {filter}");
    }
    let answer = stage.voice("333").subscribe("$SYS/#");
    assert_eq!(answer, Answer::No);
}

#[test]
fn mosquitto_with_our_rules_delivers_nothing_to_a_forbidden_subscription() {
    let mut stage = Stage::mosquitto();
    for &(listener, filter, speaker, topic) in FORBIDDEN_TO_HEAR {
        let answer = stage.listen(listener, filter, speaker, topic);
        assert_eq!(
            answer,
            Answer::Yes,
            "it grants and drops: {listener}, {filter}"
        );
    }
}

#[test]
fn the_embedded_broker_refuses_a_foreign_will() {
    let mut stage = Stage::embedded();
    for retain in [false, true] {
        assert_eq!(
            stage.threaten("333", "atlas/hula/334/tunnel/presence", retain),
            Answer::No
        );
        assert_eq!(
            stage.threaten("333", "atlas/lava/7/tunnel/presence", retain),
            Answer::No
        );
        let answer = stage.threaten("333", "atlas/hula/334/tunnel/control/controller-a", retain);
        assert_eq!(answer, Answer::No);
    }
    stage.newcomers_hear_nothing_forbidden();
}

#[test]
fn mosquitto_with_our_rules_never_delivers_a_foreign_will() {
    let mut stage = Stage::mosquitto();
    for retain in [false, true] {
        for topic in [
            "atlas/hula/334/tunnel/presence",
            "atlas/lava/7/tunnel/presence",
            "atlas/hula/334/tunnel/control/controller-a",
        ] {
            // It may refuse the connection or take the will and drop it; `threaten` has seen that nobody heard it.
            stage.threaten("333", topic, retain);
        }
    }
    stage.newcomers_hear_nothing_forbidden();
}

#[test]
fn the_own_will_is_delivered_by_both() {
    for mut stage in [Stage::embedded(), Stage::mosquitto()] {
        let device = stage.parties["333"].clone();
        stage.voices.remove("333");
        let will = LastWill::new(
            "atlas/hula/333/tunnel/presence",
            "gone",
            QoS::AtLeastOnce,
            true,
        );
        let wire = Wire::connect(&stage.world, &device, &device.id(), Some(will));
        drop(wire.unwrap_or_else(|answer| panic!("{answer:?}")));
        stage.voice("controller-a").hear("gone");
    }
}

#[test]
fn the_embedded_broker_refuses_a_foreign_client_id() {
    let mut stage = Stage::embedded();
    let thief = stage.parties["333"].clone();
    for id in [
        "334.hula.atlas",
        "333.hula.atlas.",
        "333.lava.atlas",
        "controller-a.hula.atlas",
        "anything",
        "",
    ] {
        let answer = Wire::connect(&stage.world, &thief, id, None).err();
        assert!(
            matches!(answer, Some(Answer::No | Answer::Closed)),
            "{id}: {answer:?}"
        );
    }
    stage.everybody_still_hears();
}

#[test]
fn mosquitto_with_our_rules_takes_the_client_id_from_the_certificate() {
    let mut stage = Stage::mosquitto();
    let thief = stage.parties["333"].clone();
    stage.voices.remove("333");
    // It lets the thief in as what the certificate says.
    let mut wire = Wire::connect(&stage.world, &thief, "334.hula.atlas", None)
        .ok()
        .unwrap();
    assert_eq!(
        wire.publish("atlas/hula/334/tunnel/presence", "forged-by-id", true),
        Answer::Yes
    );
    assert_eq!(
        wire.publish("atlas/hula/333/tunnel/presence", "own", true),
        Answer::Yes
    );
    stage.voice("controller-a").hear("own");
    assert!(!stage.voice("controller-a").has_heard("forged-by-id"));
    drop(wire);
    stage.everybody_still_hears();
}

#[test]
fn a_certificate_of_another_realm_is_no_certificate() {
    let stage = Stage::embedded();
    let elsewhere = World::new();
    let _signer = elsewhere.signer();
    let stranger = elsewhere.enroll("hula", "333");
    // The stranger knows our realm's address and authority; ours does not know his.
    let answer = Wire::connect(&stage.world, &stranger, "333.hula.atlas", None).err();
    assert_eq!(answer, Some(Answer::Closed));
}
