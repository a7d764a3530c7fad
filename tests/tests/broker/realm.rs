//! A realm as it is built, with its own policies: a device, two controllers, and whether the broker still serves them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use e2e::{Daemon, Device, World};
use rustls::ClientConfig;

use super::packets::Connect;
use super::party::{Party, tls};
use super::seen::Seen;

pub(crate) const PRESENCE: &str = "atlas/hula/333/tunnel/presence";
pub(crate) const PRESENCES: &str = "atlas/hula/+/tunnel/presence";
pub(crate) const CONTROL: &str = "atlas/hula/333/tunnel/control/+";
pub(crate) const ORDER: &str = "atlas/hula/333/tunnel/control/controller-a";

/// Everybody is enrolled; the broker runs.
pub(crate) struct Realm {
    pub(crate) device: Device,
    pub(crate) controller: Device,
    pub(crate) other: Device,
    tls: BTreeMap<String, Arc<ClientConfig>>,
    broker: RefCell<Daemon>,
    pub(crate) world: World,
}

impl Realm {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let world = World::new();
        let _signer = world.signer();
        let [device, controller, other] =
            ["333", "controller-a", "controller-b"].map(|name| world.enroll("hula", name));
        let tls = [&device, &controller, &other].map(|one| (one.id(), tls(&world, one)));
        Self {
            tls: tls.into(),
            device,
            controller,
            other,
            broker: RefCell::new(world.broker()),
            world,
        }
    }

    /// A TLS connection and nothing more.
    pub(crate) fn dial(&self, device: &Device) -> Party {
        Party::dial(self.world.broker_port(), &self.tls[&device.id()])
    }

    /// The TLS settings of a device.
    pub(crate) fn tls(&self, device: &Device) -> Arc<ClientConfig> {
        Arc::clone(&self.tls[&device.id()])
    }

    /// A connected client with a clean session and no will.
    #[track_caller]
    pub(crate) fn connect(&self, device: &Device) -> Party {
        self.connect_with(device, &Connect::new(&device.id()))
    }

    #[track_caller]
    pub(crate) fn connect_with(&self, device: &Device, connect: &Connect<'_>) -> Party {
        let mut party = self.dial(device);
        let answer = party.connect(connect);
        assert!(matches!(answer, Seen::ConnAck { code: 0, .. }), "{answer}");
        party
    }

    /// Whoever was there before has not noticed anything, and a newcomer is served.
    #[track_caller]
    pub(crate) fn still_serves(&self, witness: &mut Party) {
        let ended = self.broker.borrow_mut().has_ended();
        assert_eq!(ended, None, "the broker has ended");
        assert_eq!(witness.ping(), [Seen::PingResp]);
        let mut newcomer = self.connect(&self.controller);
        let answer = newcomer.publish("atlas/hula/999/tunnel/control/controller-a", "x", 1, false);
        assert!(matches!(answer[..], [Seen::PubAck(_)]), "{answer:?}");
        newcomer.disconnect();
    }

    /// The broker's log.
    pub(crate) fn log(&self) -> String {
        self.broker.borrow().stderr()
    }

    /// How much memory the broker holds, in bytes.
    pub(crate) fn allocated(&self) -> u64 {
        e2e::allocated(self.broker.borrow().pid())
    }
}
