//! Services that are asked for by their port: `ssh -p 8022`, or `tunnel forward 333 8080`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daemon::service::Service;
use protocol::Label;

/// Which service a port means.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByPort(BTreeMap<u16, Vec<Label>>);

impl ByPort {
    /// The ports of these services. One on the computer itself goes before one behind it; a port that several services
    /// have alike means none of them.
    pub(crate) fn of<'a>(services: impl IntoIterator<Item = (&'a Label, &'a Service)>) -> Self {
        let mut here: BTreeMap<u16, Vec<Label>> = BTreeMap::new();
        let mut behind = here.clone();
        for (name, service) in services {
            let places = if is_here(service) {
                &mut here
            } else {
                &mut behind
            };
            places
                .entry(port_of(service))
                .or_default()
                .push(name.clone());
        }
        behind.append(&mut here);
        Self(behind)
    }

    /// The service that a word means which is no service's name.
    pub(crate) fn find(&self, word: &Label) -> Option<&Label> {
        match self.0.get(&port(word)?)?.as_slice() {
            [only] => Some(only),
            [] | [_, _, ..] => None,
        }
    }

    /// A service as it is told to somebody who asked for a port that is none's.
    pub(super) fn told(&self, name: &Label) -> String {
        let port = self.0.iter().find(|(_, names)| names.contains(name));
        port.map_or_else(|| name.to_string(), |(port, _)| format!("{name} ({port})"))
    }
}

/// The port that a word is, if it is one.
pub(super) fn port(word: &Label) -> Option<u16> {
    word.as_str().parse().ok().filter(|port| *port > 0)
}

/// The agent's own ssh has no port; who asks for ssh's means it.
fn port_of(service: &Service) -> u16 {
    match service {
        Service::At(address) => address.port(),
        Service::Builtin => 22,
    }
}

fn is_here(service: &Service) -> bool {
    let is_loopback = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match service {
        Service::At(address) => address.host() == "localhost" || is_loopback(address.host()),
        Service::Builtin => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_means_the_one_service_that_has_it() {
        let label = |text: &str| text.parse::<Label>().unwrap();
        let services: BTreeMap<Label, Service> = [
            ("ssh", "127.0.0.1:22"),
            ("web", "localhost:8080"),
            ("camera", "192.168.1.9:8080"),
            ("printer", "192.168.1.7:631"),
            ("one", "[::1]:5000"),
            ("two", "127.0.0.1:5000"),
        ]
        .map(|(name, address)| (label(name), address.parse().unwrap()))
        .into();
        let by_port = ByPort::of(&services);
        for (word, service) in [
            ("22", Some("ssh")),
            ("8080", Some("web")),
            ("631", Some("printer")),
            ("5000", None),
            ("0", None),
            ("65536", None),
            ("web", None),
        ] {
            let found = by_port.find(&label(word)).map(Label::as_str);
            assert_eq!(found, service, "{word}");
        }
        assert_eq!(by_port.told(&label("printer")), "printer (631)");

        let own = BTreeMap::from([(label("ssh"), Service::Builtin)]);
        let found = ByPort::of(&own);
        assert_eq!(found.find(&label("22")).map(Label::as_str), Some("ssh"));
    }
}
