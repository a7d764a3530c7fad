//! What the proxy says of itself to a monitor.

use std::sync::Arc;

use daemon::monitor::{Counter, Page, Source};

use crate::hub::Hub;

/// What a proxy has counted since it began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: Counter,
    pub(crate) turned_away: Counter,
    pub(crate) logins: Counter,
    pub(crate) failed_logins: Counter,
    pub(crate) streams: Counter,
    pub(crate) refused_streams: Counter,
    pub(crate) up: Counter,
    pub(crate) down: Counter,
}

/// The proxy's part of the monitor.
#[derive(Clone, Debug)]
pub struct Vitals(pub(crate) Arc<Hub>);

impl Source for Vitals {
    fn unready(&self) -> Option<String> {
        let stale = self.0.keys.is_stale();
        stale.then(|| "proxy: the devices' keys cannot be read, its log says why; those that it has stay in use".to_owned())
    }

    fn write(&self, page: &mut Page) {
        let (stats, counts) = (self.0.stats().now(), &self.0.counts);
        for (name, help, level) in [
            (
                "tunnel_proxy_connections",
                "SSH connections of devices and controllers that have logged in.",
                stats.connections,
            ),
            (
                "tunnel_proxy_strangers",
                "Connections that have not logged in yet.",
                stats.strangers,
            ),
            (
                "tunnel_proxy_members",
                "Connections that serve at least one forward.",
                stats.members,
            ),
            (
                "tunnel_proxy_tunnels",
                "Devices that can be reached.",
                stats.tunnels,
            ),
            ("tunnel_proxy_streams", "Open streams.", stats.streams),
            (
                "tunnel_proxy_waiting_streams",
                "Streams that wait for a forward, or for a connection with room.",
                stats.waiting,
            ),
            (
                "tunnel_proxy_keys",
                "Public keys of devices that are let in.",
                self.0.keys.current().len(),
            ),
        ] {
            page.number(name, help, level);
        }
        for (name, help, count) in [
            (
                "tunnel_proxy_accepted_connections_total",
                "TCP connections that might log in.",
                &counts.accepted,
            ),
            (
                "tunnel_proxy_refused_connections_total",
                "TCP connections closed at once, for too many of them or too many failed logins.",
                &counts.turned_away,
            ),
            ("tunnel_proxy_logins_total", "Logins.", &counts.logins),
            (
                "tunnel_proxy_failed_logins_total",
                "Connections that offered keys, none of them a device's, and ended.",
                &counts.failed_logins,
            ),
            (
                "tunnel_proxy_opened_streams_total",
                "Streams that were opened.",
                &counts.streams,
            ),
            (
                "tunnel_proxy_refused_streams_total",
                "Streams that were refused.",
                &counts.refused_streams,
            ),
        ] {
            page.number(name, help, count.get());
        }
        page.numbers(
            "tunnel_proxy_stream_bytes_total",
            "What streams that have ended carried, by whether it went to the device or to the controller.",
            "to",
            [("device", counts.up.get()), ("controller", counts.down.get())],
        );
    }
}
