//! Who may do what. Pure; each answer is a value that carries what it allows, and only this module can make it.

use std::net::Ipv4Addr;

use protocol::{DeviceId, Label, Role};
use russh::keys::PublicKey;

use crate::keys::Keys;

/// A device that has proved to be who it is, and uses its own system's name as its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    id: DeviceId,
}

impl Peer {
    /// The device that this key belongs to in the system that the user name says.
    ///
    /// The caller must have seen the proof of possession, or use the answer only to say whether a proof is worth it.
    pub fn admit(user: &str, key: &PublicKey, keys: &Keys) -> Option<Self> {
        let id = keys.owner(&user.parse().ok()?, key)?;
        Some(Self { id: id.clone() })
    }

    /// Its name.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// Whether it may forward `port` for listeners on `host` (RFC 4254, section 7.1).
    pub fn forward(&self, host: &str, port: u32) -> Result<ForwardPermit, Refusal> {
        match self.id.role() {
            Role::Target => {}
            Role::Controller => return Err(Refusal::Role),
        }
        let port = u16::try_from(port).map_err(|_| Refusal::Port)?;
        let wanted = if LISTEN_HOSTS.contains(&host) {
            match port {
                0 => Wanted::AnyPort,
                port => Wanted::Port(port),
            }
        } else if self.is_own_name(host) {
            match port {
                0 => return Err(Refusal::Port),
                port => Wanted::Service(port),
            }
        } else {
            return Err(Refusal::Host);
        };
        Ok(ForwardPermit {
            owner: self.id.clone(),
            wanted,
        })
    }

    /// Whether it may open a stream to `host` and `port` (RFC 4254, section 7.2).
    pub fn stream(&self, host: &str, port: u32) -> Result<StreamPermit, Refusal> {
        match self.id.role() {
            Role::Controller => {}
            Role::Target => return Err(Refusal::Role),
        }
        let port = u16::try_from(port).map_err(|_| Refusal::Port)?;
        if port == 0 {
            return Err(Refusal::Port);
        }
        let to = if LOOPBACK_HOSTS.contains(&host) {
            Destination::Port(self.id.system().clone(), port)
        } else {
            Destination::Service(self.neighbour(host)?, port)
        };
        Ok(StreamPermit { to })
    }

    fn is_own_name(&self, host: &str) -> bool {
        self.neighbour(host).is_ok_and(|id| id == self.id)
    }

    /// The device of the same system that a host name means.
    fn neighbour(&self, host: &str) -> Result<DeviceId, Refusal> {
        let number = number_of(host).map(|number| number.to_string());
        let host = number.as_deref().unwrap_or(host);
        let (device, rest) = match host.split_once('.') {
            Some((device, rest)) => (device, Some(rest)),
            None => (host, None),
        };
        let (system, realm) = (self.id.system(), self.id.realm());
        let ours = match rest.map(|rest| rest.split_once('.').unwrap_or((rest, ""))) {
            None => true,
            Some((named, "")) => named == system.as_str(),
            Some((named, in_realm)) => named == system.as_str() && in_realm == realm.as_str(),
        };
        let device: Label = device.parse().map_err(|_| Refusal::Host)?;
        if !ours {
            return Err(Refusal::System);
        }
        DeviceId::new(device, system.clone(), realm.clone()).map_err(|_| Refusal::Host)
    }
}

/// The number that OpenSSH took for an address: `ssh -J … 333` asks the jump host for `0.0.1.77`, since 333 is an IPv4
/// address in a form of old (`inet_aton`). Addresses of the network 0 are nobody's (RFC 1122, section 3.2.1.3), so
/// nothing else can be meant. A name with leading zeros is another number there: it is asked for with its system.
fn number_of(host: &str) -> Option<u32> {
    let number = host.parse::<Ipv4Addr>().ok()?.to_bits();
    (number < 1 << 24).then_some(number)
}

/// A forward that may be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardPermit {
    owner: DeviceId,
    wanted: Wanted,
}

impl ForwardPermit {
    /// The device whose forward it is.
    pub fn owner(&self) -> &DeviceId {
        &self.owner
    }

    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted
    }
}

/// A stream that may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPermit {
    to: Destination,
}

impl StreamPermit {
    pub(crate) fn to(&self) -> &Destination {
        &self.to
    }
}

/// What a forward asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    AnyPort,
    Port(u16),
    /// A service port by the device's name.
    Service(u16),
}

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A port within a system.
    Port(Label, u16),
    /// A service of a device.
    Service(DeviceId, u16),
}

/// Why something is not allowed: for the log. The peer is told one thing for all of them, which is also what it is told
/// about names that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Controllers do not forward, and targets do not open streams.
    #[error("controllers do not forward, and others open no streams")]
    Role,
    /// Another system or realm, whether it exists or not.
    #[error("outside its own system")]
    System,
    /// No name, or not one to listen on.
    #[error("the host is neither a device's name nor this computer")]
    Host,
    /// No port, or port 0 where one must be named.
    #[error("there is no such port, or one has to be named")]
    Port,
}

/// How clients name "here" when they ask for a listener. None of them is opened: ports are names.
const LISTEN_HOSTS: &[&str] = &["", "localhost", "127.0.0.1", "::1", "*", "0.0.0.0", "::"];

/// How clients name the proxy itself when they open a stream.
const LOOPBACK_HOSTS: &[&str] = &["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(id: &str) -> Peer {
        Peer {
            id: id.parse().unwrap(),
        }
    }

    #[test]
    fn a_target_forwards_ports_and_its_own_name_only() {
        let target = peer("333.hula.atlas");
        for host in LISTEN_HOSTS {
            assert_eq!(target.forward(host, 0).unwrap().wanted(), Wanted::AnyPort);
            assert_eq!(target.forward(host, 7).unwrap().wanted(), Wanted::Port(7));
        }
        for host in ["333", "333.hula", "333.hula.atlas"] {
            assert_eq!(
                target.forward(host, 22).unwrap().wanted(),
                Wanted::Service(22)
            );
            assert_eq!(target.forward(host, 0), Err(Refusal::Port));
        }
        for host in [
            "334",
            "example.org",
            "333.hula.other",
            "333.hula.atlas.x",
            "10.0.0.1",
        ] {
            assert!(target.forward(host, 22).is_err(), "{host}");
        }
        assert_eq!(target.forward("localhost", 65_536), Err(Refusal::Port));
    }

    #[test]
    fn a_controller_opens_streams_in_its_own_system_only() {
        let controller = peer("controller-a.hula.atlas");
        let service = Destination::Service("333.hula.atlas".parse().unwrap(), 22);
        for host in ["333", "333.hula", "333.hula.atlas", "0.0.1.77"] {
            assert_eq!(controller.stream(host, 22).unwrap().to(), &service);
        }
        let port = Destination::Port("hula".parse().unwrap(), 10_000);
        for host in LOOPBACK_HOSTS {
            assert_eq!(controller.stream(host, 10_000).unwrap().to(), &port);
        }
        assert_eq!(controller.stream("333.other", 22), Err(Refusal::System));
        assert_eq!(
            controller.stream("333.hula.other", 22),
            Err(Refusal::System)
        );
        assert_eq!(controller.stream("1.0.1.77", 22), Err(Refusal::System));
        assert_eq!(controller.stream("", 22), Err(Refusal::Host));
        assert_eq!(controller.stream("333", 0), Err(Refusal::Port));
    }

    #[test]
    fn each_role_has_its_own_half() {
        assert_eq!(
            peer("controller.hula.atlas").forward("", 0),
            Err(Refusal::Role)
        );
        assert_eq!(
            peer("333.hula.atlas").stream("localhost", 22),
            Err(Refusal::Role)
        );
    }

    proptest! {
        #[test]
        fn no_host_name_leads_out_of_the_system(host in "[a-z0-9.-]{0,40}|.{0,20}", port in 0u32..70_000) {
            if let Ok(permit) = peer("controller.hula.atlas").stream(&host, port) {
                match permit.to() {
                    Destination::Port(system, _) => prop_assert_eq!(system.as_str(), "hula"),
                    Destination::Service(device, _) => {
                        prop_assert_eq!(device.system().as_str(), "hula");
                        prop_assert_eq!(device.realm().as_str(), "atlas");
                    }
                }
            }
        }
    }
}
