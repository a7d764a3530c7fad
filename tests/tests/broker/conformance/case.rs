//! A case: what is done, which statements of the standard it is about, and what the standard lets a broker do.

use crate::broker::packets::PINGREQ;
use crate::broker::seen::Seen;

use super::stage::Stage;

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Statements of MQTT 3.1.1, as they are numbered there.
    pub(super) covers: &'static [&'static str],
    /// What may be seen.
    pub(super) standard: &'static [&'static str],
    pub(super) deed: Deed,
}

/// What is done.
pub(super) enum Deed {
    /// These bytes are the first of a connection of the client with this id.
    First(fn(&str) -> Vec<u8>),
    /// These bytes follow a CONNECT, and a PINGREQ follows them.
    After(&'static [u8]),
    /// More than that.
    Scene(fn(&Stage) -> String),
}

impl Case {
    /// Runs it; what was seen.
    #[track_caller]
    pub(super) fn run(&self, stage: &Stage) -> String {
        stage.next_case();
        match self.deed {
            Deed::First(bytes) => {
                let mut alice = stage.dial("alice");
                alice.send(&bytes(stage.id("alice")));
                // A broker that only waits for more is not kept waiting.
                alice.send(PINGREQ);
                stage.tell(&alice.until(|seen| {
                    matches!(seen, Seen::ConnAck { code: 0, .. } | Seen::ConnAckOfFive(0))
                }))
            }
            Deed::After(bytes) => {
                let mut alice = stage.connect("alice");
                alice.send(bytes);
                stage.tell(&alice.ping())
            }
            Deed::Scene(play) => play(stage),
        }
    }
}
