//! Every limit of the broker, each with its reason. Beyond a limit something is refused or cut; nothing waits for ever.

use std::time::Duration;

use protocol::limits::{MAX_PAYLOAD, MAX_TOPIC};

/// What the broker grants its peers. The defaults fit a realm of some ten thousand devices on a small machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have not finished their CONNECT; default 2,048. A handshake in flight costs about 10 KB, so
    /// silent peers cost at most 20 MB and are gone after [`Self::greeting`].
    pub handshakes: usize,
    /// Those of them that may be of one address (of one /64 with IPv6); default 256. A site of 10,000 devices behind one
    /// address is back in some ten seconds after a restart: a handshake takes a few milliseconds and some round trips,
    /// and who is turned away comes again. It takes eight addresses to fill the doorway.
    pub handshakes_per_address: usize,
    /// TLS handshake and CONNECT together; default 10 s. A handshake takes two round trips and CONNECT one: that is
    /// enough for a satellite link that loses a packet twice.
    pub greeting: Duration,
    /// Sessions, connected or kept; default 100,000, the size that the design is measured for.
    pub sessions: usize,
    /// The longest silence of a client, whatever keepalive it asked for, also none; default 30 min: 1.5 times
    /// the longest keepalive that AWS IoT Core takes (1,200 s).
    pub idle: Duration,
    /// How long a peer may take no byte while there are some for it; default 15 s. Eight KiB wait in TLS
    /// (`TLS_BUFFER`), so that a link of 0.5 KB/s is served, and a stopped peer is noticed before its keepalive.
    pub write: Duration,
    /// How long closing a connection may take; default 2 s: the last bytes and the TLS close go out, or do not.
    pub close: Duration,
    /// How long a session with `clean_session = 0` is kept for its client; default 1 h, as AWS IoT Core.
    pub session_expiry: Duration,
    /// Subscriptions of one session; default 50, as AWS IoT Core. An agent has two, a controller three.
    pub subscriptions: usize,
    /// Messages sent with `QoS` 1 and not acknowledged; default 32. At 200 ms that is 160 messages a second.
    pub inflight: usize,
    /// Messages that wait for one subscriber; default 10,000: a controller must survive that a whole system of 9,000
    /// devices reports at once. The memory is bounded by [`Self::queue_bytes`].
    pub queue_messages: usize,
    /// Topics and payloads that wait for one subscriber, in bytes; default 4 MiB: 10,000 presences of 400 bytes.
    pub queue_bytes: usize,
    /// Retained messages that wait for one subscriber; default 100,000, the most there can be. They are shared with the
    /// store, so that one costs a pointer.
    pub queue_retained: usize,
    /// Topics with a retained message; default 100,000: one presence for each session.
    pub retained_messages: usize,
    /// All retained topics and payloads, in bytes; default 64 MiB: 100,000 of 640 bytes.
    pub retained_bytes: usize,
    /// Refused filters of one connection before it is closed; default 16. One is a mistake; more would only fill the log.
    pub refused_filters: u32,
    /// Messages on their way to the bus; default 4,096. What does not fit is counted, and the retained ones are sent later.
    pub bus_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 2_048,
            handshakes_per_address: 256,
            greeting: Duration::from_secs(10),
            sessions: 100_000,
            idle: Duration::from_mins(30),
            write: Duration::from_secs(15),
            close: Duration::from_secs(2),
            session_expiry: Duration::from_hours(1),
            subscriptions: 50,
            inflight: 32,
            queue_messages: 10_000,
            queue_bytes: 4 * 1024 * 1024,
            queue_retained: 100_000,
            retained_messages: 100_000,
            retained_bytes: 64 * 1024 * 1024,
            refused_filters: 16,
            bus_queue: 4_096,
        }
    }
}

/// The largest packet after its fixed header, in bytes: the largest payload, a topic, and 2 KiB for the other fields of
/// a CONNECT (client id and user name; AWS client libraries put metrics into the latter).
pub(crate) const MAX_PACKET: usize = MAX_PAYLOAD + MAX_TOPIC + 2 * 1024;

/// The most filters in one SUBSCRIBE or UNSUBSCRIBE: AWS IoT Core takes 8.
pub(crate) const MAX_FILTERS: usize = 8;

/// Bytes for a peer that wait outside its session, before its packets are no longer read; 64 KiB are about four of the
/// largest messages, and acknowledgements to a peer that only writes end there too.
pub(crate) const OUTBOUND_HIGH: usize = 64 * 1024;

/// Bytes read from a peer at once. Packets of devices have some hundred bytes.
pub(crate) const READ_CHUNK: usize = 4 * 1024;

/// Bytes that TLS may hold for a peer, so that [`Limits::write`] means progress on the link and not in memory.
pub(crate) const TLS_BUFFER: usize = 8 * 1024;

/// The largest PEM file, in bytes: a bundle of some hundred certificates.
pub(crate) const MAX_PEM: usize = 1024 * 1024;

/// Connections that the kernel may hold ready for us: the fleet comes back at once after a restart.
pub(crate) const LISTEN_BACKLOG: u32 = 4_096;

/// How often sessions whose time is over are looked for. Late by as much is no harm beside an expiry of an hour.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How often at most it is said that newcomers are turned away in the doorway: they are many when they are.
pub(crate) const FULL_REPORT: Duration = Duration::from_secs(10);

/// The first and longest pause after an accept failed, as with no file descriptor left: others must close theirs first.
pub(crate) const ACCEPT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_fit_each_other() {
        let limits = Limits::default();
        assert!(limits.queue_bytes > MAX_PAYLOAD + MAX_TOPIC);
        assert!(limits.queue_retained >= limits.retained_messages);
        assert!(limits.retained_messages >= limits.sessions);
        assert!(limits.write < limits.idle && limits.close < limits.greeting);
        const { assert!(OUTBOUND_HIGH > MAX_PACKET) };
        assert!(limits.handshakes_per_address * 2 <= limits.handshakes);
        // The packet identifiers of what is in flight are never exhausted.
        assert!(limits.inflight < usize::from(u16::MAX));
    }
}
