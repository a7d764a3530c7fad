//! The policy gate: everything a device wants is decided here, and what is allowed becomes a value.
//!
//! [`Admitted`], [`Accepted`] and [`Granted`] can be made nowhere else, and the hub takes nothing else from devices.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use daemon::report::one_line;
use policies::{Action, Decision, PolicySet, RoleDocument, Subject};
use protocol::{ClientIdSuffix, Role};

use crate::message::Message;
use crate::peer::{self, Peer};
use crate::topic::{TopicFilter, TopicName};

/// The realm's policies, as they are now.
#[derive(Debug)]
pub(crate) struct Gate {
    policies: RwLock<Arc<PolicySet>>,
    client_id_suffix: ClientIdSuffix,
}

/// A device that may be connected under its client id.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    peer: Peer,
}

/// A message that may be published, now or as a will.
#[derive(Debug)]
pub(crate) struct Accepted {
    message: Message,
}

/// A filter that may be subscribed to.
#[derive(Debug)]
pub(crate) struct Granted {
    filter: TopicFilter,
}

/// What was refused and by which rule: for the log, never for the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) action: &'static str,
    pub(crate) resource: String,
    pub(crate) rule: String,
}

impl Gate {
    pub(crate) fn new(policies: PolicySet, client_id_suffix: ClientIdSuffix) -> Self {
        Self {
            policies: RwLock::new(Arc::new(policies)),
            client_id_suffix,
        }
    }

    /// From now on these decide. False when they are the same as before.
    pub(crate) fn replace(&self, policies: PolicySet) -> bool {
        let mut current = self
            .policies
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let differ = **current != policies;
        *current = Arc::new(policies);
        differ
    }

    /// Decides a CONNECT whose client id is the certificate's common name.
    pub(crate) fn connect(&self, peer: Peer) -> Result<Admitted, Refusal> {
        self.decide(
            peer.id.role(),
            &peer.subject,
            Action::Connect,
            peer.subject.client_id(),
        )?;
        Ok(Admitted { peer })
    }

    /// Decides a PUBLISH, or the will of a CONNECT.
    pub(crate) fn publish(&self, client: &Admitted, message: Message) -> Result<Accepted, Refusal> {
        self.may_publish(client.role(), client.subject(), &message)?;
        Ok(Accepted { message })
    }

    /// Decides one filter of a SUBSCRIBE.
    pub(crate) fn subscribe(
        &self,
        client: &Admitted,
        filter: TopicFilter,
    ) -> Result<Granted, Refusal> {
        self.decide(
            client.role(),
            client.subject(),
            Action::Subscribe,
            filter.as_str(),
        )?;
        Ok(Granted { filter })
    }

    /// Decides a delivery. A subscription may be wider than what its owner may see.
    pub(crate) fn may_receive(&self, client: &Admitted, topic: &TopicName) -> bool {
        let policies = self.policies();
        decision(
            &policies,
            client.role(),
            client.subject(),
            Action::Receive,
            topic.as_str(),
        )
        .is_allowed()
    }

    /// Why a device that was let in before would not be let in now with the same will.
    pub(crate) fn objection(&self, client: &Admitted, will: Option<&Message>) -> Option<Refusal> {
        self.decide(
            client.role(),
            client.subject(),
            Action::Connect,
            client.subject().client_id(),
        )
        .and_then(|()| match will {
            Some(will) => self.may_publish(client.role(), client.subject(), will),
            None => Ok(()),
        })
        .err()
    }

    /// Why a filter that was granted before would not be now.
    pub(crate) fn filter_objection(
        &self,
        client: &Admitted,
        filter: &TopicFilter,
    ) -> Option<Refusal> {
        self.decide(
            client.role(),
            client.subject(),
            Action::Subscribe,
            filter.as_str(),
        )
        .err()
    }

    /// Why a will is not published now. Its client may have gone long ago, before the broker was started; all that
    /// policies ask for is in its client id, which its certificate could not contradict.
    pub(crate) fn will_objection(&self, client_id: &str, will: &Message) -> Option<Refusal> {
        let refuse =
            |error: &dyn Error| Refusal::new("iot:Publish", will.topic.as_str(), one_line(error));
        let decided = self
            .client_id_suffix
            .device_id(client_id)
            .map_err(|error| refuse(&error))
            .and_then(|id| {
                let subject = peer::subject_of(client_id, &id).map_err(|error| refuse(&error))?;
                self.may_publish(id.role(), &subject, will)
            });
        decided.err()
    }

    fn may_publish(&self, role: Role, subject: &Subject, message: &Message) -> Result<(), Refusal> {
        self.decide(role, subject, Action::Publish, message.topic.as_str())?;
        if message.retain {
            self.decide(role, subject, Action::RetainPublish, message.topic.as_str())?;
        }
        Ok(())
    }

    fn policies(&self) -> Arc<PolicySet> {
        let current = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    fn decide(
        &self,
        role: Role,
        subject: &Subject,
        action: Action,
        resource: &str,
    ) -> Result<(), Refusal> {
        let policies = self.policies();
        let reason = match decision(&policies, role, subject, action, resource) {
            Decision::Allowed { .. } => return Ok(()),
            Decision::ExplicitDeny { statement } => format!("statement `{statement}` denies it"),
            Decision::NoMatch => "no statement allows it".to_owned(),
        };
        Err(Refusal {
            action: action.name(),
            resource: resource.to_owned(),
            rule: reason,
        })
    }
}

impl Admitted {
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    fn role(&self) -> Role {
        self.peer.id.role()
    }

    fn subject(&self) -> &Subject {
        &self.peer.subject
    }
}

impl Accepted {
    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn into_message(self) -> Message {
        self.message
    }
}

impl Granted {
    pub(crate) fn filter(&self) -> &TopicFilter {
        &self.filter
    }
}

impl Refusal {
    /// What a peer asked for that is refused before policies are asked.
    pub(crate) fn new(action: &'static str, resource: &str, rule: impl fmt::Display) -> Self {
        Self {
            action,
            resource: resource.to_owned(),
            rule: rule.to_string(),
        }
    }
}

fn decision<'a>(
    policies: &'a PolicySet,
    role: Role,
    subject: &Subject,
    action: Action,
    resource: &str,
) -> Decision<'a> {
    let document = match role {
        Role::Controller => RoleDocument::Controller,
        Role::Target => RoleDocument::Target,
    };
    policies.get(document).decide(subject, action, resource)
}

#[cfg(test)]
pub(crate) mod tests {
    use protocol::DeviceId;

    use super::*;
    use crate::message::Qos;
    use crate::revocation::CertificateName;
    use crate::topic::tests::{filter, name};

    /// The gate of the realm `atlas`.
    pub(crate) fn gate() -> Gate {
        Gate::new(PolicySet::for_realm("atlas").unwrap(), "".parse().unwrap())
    }

    /// An admitted device of the realm `atlas`.
    pub(crate) fn admitted(gate: &Gate, id: &str) -> Admitted {
        let id: DeviceId = id.parse().unwrap();
        let text = id.to_string();
        let subject = peer::subject_of(&text, &id).unwrap();
        gate.connect(Peer {
            id,
            address: "127.0.0.1:1".parse().unwrap(),
            certificate: CertificateName::default(),
            intermediates: Box::default(),
            subject,
        })
        .unwrap()
    }

    #[test]
    fn the_document_of_the_role_decides() {
        let gate = gate();
        let (target, controller) = (
            admitted(&gate, "333.hula.atlas"),
            admitted(&gate, "controller-a.hula.atlas"),
        );
        let presence = |retain| {
            Message::new(
                name("atlas/hula/333/tunnel/presence"),
                b"1",
                Qos::AtLeastOnce,
                retain,
            )
        };
        assert!(gate.publish(&target, presence(true)).is_ok());
        let refusal = gate.publish(&controller, presence(false)).unwrap_err();
        assert_eq!(
            (refusal.action, refusal.rule.as_str()),
            ("iot:Publish", "no statement allows it")
        );
        assert!(
            gate.subscribe(&controller, filter("atlas/hula/+/tunnel/presence"))
                .is_ok()
        );
        assert!(
            gate.subscribe(&target, filter("atlas/hula/+/tunnel/presence"))
                .is_err()
        );
        assert!(gate.may_receive(&controller, &name("atlas/hula/333/tunnel/presence")));
        assert!(!gate.may_receive(&controller, &name("atlas/other/333/tunnel/presence")));
    }

    #[test]
    fn a_will_is_decided_by_its_client_id_alone() {
        let gate = gate();
        let will = |topic| Message::new(name(topic), b"1", Qos::AtLeastOnce, true);
        let (own, foreign) = (
            will("atlas/hula/333/tunnel/presence"),
            will("atlas/hula/334/tunnel/presence"),
        );
        assert_eq!(gate.will_objection("333.hula.atlas", &own), None);
        for (client_id, will) in [
            ("333.hula.atlas", &foreign),
            ("controller-a.hula.atlas", &own),
            ("nobody", &own),
        ] {
            assert!(
                gate.will_objection(client_id, will).is_some(),
                "{client_id}"
            );
        }
    }

    #[test]
    fn retaining_needs_its_own_permission() {
        let gate = gate();
        let target = admitted(&gate, "333.hula.atlas");
        let state = |retain| {
            Message::new(
                name("atlas/hula/333/tunnel/state"),
                b"1",
                Qos::AtLeastOnce,
                retain,
            )
        };
        assert!(gate.publish(&target, state(false)).is_ok());
        assert_eq!(
            gate.publish(&target, state(true)).unwrap_err().action,
            "iot:RetainPublish"
        );
    }
}
