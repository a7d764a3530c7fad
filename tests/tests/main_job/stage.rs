//! Everybody in two systems connected to one broker, each hearing all that he may: whoever says something, it can be seen
//! who hears it.

use std::collections::BTreeMap;

use e2e::{CEILING, Daemon, Device, Mosquitto, World, run};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::LastWill;

use super::wire::{Answer, Wire};

/// A broker, and everybody connected to it and subscribed to all that he may hear.
pub(super) struct Stage {
    // Fields are dropped in this order: connections, broker, world.
    pub(super) voices: BTreeMap<&'static str, Wire>,
    _broker: Broker,
    pub(super) parties: BTreeMap<&'static str, Device>,
    said: usize,
    pub(super) world: World,
}

#[expect(dead_code, reason = "held while the test runs")]
enum Broker {
    Embedded(Daemon),
    Mosquitto(Mosquitto),
}

impl Stage {
    #[track_caller]
    pub(super) fn embedded() -> Self {
        let world = World::new();
        let parties = enroll_all(&world);
        let broker = Broker::Embedded(world.broker());
        Self::with(world, parties, broker)
    }

    #[track_caller]
    pub(super) fn mosquitto() -> Self {
        let world = World::new();
        let parties = enroll_all(&world);
        let mut render = world.tunnel();
        render
            .args(["policies", "mosquitto", "--dir"])
            .arg(world.realm());
        let rules = run(&mut render, CEILING).success().stdout;
        let broker = Broker::Mosquitto(Mosquitto::start(&world, &rules));
        Self::with(world, parties, broker)
    }

    #[track_caller]
    fn with(world: World, parties: BTreeMap<&'static str, Device>, broker: Broker) -> Self {
        let mut stage = Self {
            voices: BTreeMap::new(),
            _broker: broker,
            parties,
            said: 0,
            world,
        };
        stage.everybody_still_hears();
        stage
    }

    /// The party's connection, a new one when the last was closed.
    #[track_caller]
    pub(super) fn voice(&mut self, party: &str) -> &mut Wire {
        let (name, device) = self.parties.get_key_value(party).expect("a known party");
        if self
            .voices
            .get_mut(name)
            .is_none_or(|wire| wire.ping() == Answer::Closed)
        {
            let mut wire = Wire::connect_as_itself(&self.world, device);
            for filter in permitted_filters(device) {
                assert_eq!(
                    wire.subscribe(&filter),
                    Answer::Yes,
                    "{name} may subscribe to {filter}"
                );
            }
            self.voices.insert(name, wire);
        }
        self.voices.get_mut(name).expect("it was put there")
    }

    /// Somebody says something forbidden; nobody may hear it.
    #[track_caller]
    pub(super) fn say(&mut self, sender: &str, topic: &str, retain: bool) -> Answer {
        self.said += 1;
        let payload = format!("forbidden-{}", self.said);
        let answer = self.voice(sender).publish(topic, &payload, retain);
        self.everybody_still_hears();
        self.assert_unheard(&payload, topic);
        answer
    }

    /// Somebody connects with a forbidden will, and vanishes; nobody may hear it.
    #[track_caller]
    pub(super) fn threaten(&mut self, sender: &str, topic: &str, retain: bool) -> Answer {
        self.said += 1;
        let payload = format!("forbidden-{}", self.said);
        let device = self.parties[sender].clone();
        self.voices.remove(sender);
        let will = LastWill::new(topic, payload.as_bytes(), QoS::AtLeastOnce, retain);
        let answer = Wire::connect(&self.world, &device, &device.id(), Some(will));
        let answer = answer.map_or_else(|answer| answer, |_cut| Answer::Yes);
        self.everybody_still_hears();
        self.assert_unheard(&payload, topic);
        answer
    }

    /// Somebody subscribes to something forbidden; what others say there reaches only those who may hear it.
    #[track_caller]
    pub(super) fn listen(
        &mut self,
        listener: &str,
        filter: &str,
        speaker: &str,
        topic: &str,
    ) -> Answer {
        self.said += 1;
        let payload = format!("private-{}", self.said);
        let answer = self.voice(listener).subscribe(filter);
        assert_eq!(
            self.voice(speaker).publish(topic, &payload, false),
            Answer::Yes,
            "{speaker}, {topic}"
        );
        self.everybody_still_hears();
        let heard: Vec<_> = self.hearers(&payload);
        assert!(
            !heard.contains(&listener),
            "{listener} hears {topic} by {filter}"
        );
        assert!(
            !heard.is_empty(),
            "nobody hears {topic}: the test would see nothing"
        );
        // The next one begins without this subscription.
        self.voices.remove(listener);
        answer
    }

    /// Everybody gets a message that is permitted, after everything that was on its way to him.
    #[track_caller]
    pub(super) fn everybody_still_hears(&mut self) {
        for (system, name) in PARTIES {
            self.voice(name);
            let (speaker, topic) = permitted_message(system, name);
            self.said += 1;
            let payload = format!("permitted-{}", self.said);
            assert_eq!(
                self.voice(speaker).publish(&topic, &payload, false),
                Answer::Yes,
                "{topic}"
            );
            self.voice(name).hear(&payload);
        }
    }

    /// Nothing forbidden was retained either: it would reach whoever subscribes later.
    #[track_caller]
    pub(super) fn newcomers_hear_nothing_forbidden(&mut self) {
        self.voices.clear();
        self.everybody_still_hears();
        for (name, wire) in &mut self.voices {
            assert_eq!(wire.ping(), Answer::Yes);
            for number in 1..=self.said {
                assert!(
                    !wire.has_heard(&format!("forbidden-{number}")),
                    "{name} hears number {number}"
                );
            }
        }
    }

    #[track_caller]
    fn assert_unheard(&mut self, payload: &str, topic: &str) {
        let heard = self.hearers(payload);
        assert_eq!(
            heard,
            Vec::<&str>::new(),
            "what was forbidden on {topic} is heard"
        );
    }

    fn hearers(&mut self, payload: &str) -> Vec<&'static str> {
        self.voices
            .iter_mut()
            .filter_map(|(name, wire)| {
                wire.ping();
                wire.has_heard(payload).then_some(*name)
            })
            .collect()
    }
}

/// Every party, as (system, device): two targets and two controllers of one system, one of each of another.
const PARTIES: [(&str, &str); 6] = [
    ("hula", "333"),
    ("hula", "334"),
    ("hula", "controller-a"),
    ("hula", "controller-b"),
    ("lava", "7"),
    ("lava", "controller-x"),
];

#[track_caller]
fn enroll_all(world: &World) -> BTreeMap<&'static str, Device> {
    let _signer = world.signer();
    PARTIES
        .iter()
        .map(|&(system, name)| (name, world.enroll(system, name)))
        .collect()
}

/// All that a party may subscribe to.
fn permitted_filters(device: &Device) -> Vec<String> {
    let (system, name) = (device.system(), device.device());
    if name.starts_with("controller") {
        vec![
            format!("atlas/{system}/{name}/tunnel/reply/+"),
            format!("atlas/{system}/+/tunnel/presence"),
            format!("atlas/{system}/+/tunnel/state"),
        ]
    } else {
        vec![
            format!("atlas/{system}/{name}/tunnel/control"),
            format!("atlas/{system}/{name}/tunnel/control/+"),
        ]
    }
}

/// Somebody who may say something to this party, and where.
fn permitted_message(system: &str, name: &str) -> (&'static str, String) {
    let (target, controller) = if system == "hula" {
        ("334", "controller-b")
    } else {
        ("7", "controller-x")
    };
    if name.starts_with("controller") {
        (
            target,
            format!("atlas/{system}/{name}/tunnel/reply/{target}"),
        )
    } else {
        (
            controller,
            format!("atlas/{system}/{name}/tunnel/control/{controller}"),
        )
    }
}
