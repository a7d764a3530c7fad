//! Every limit of the broker, each with its reason. Beyond a limit something is refused or cut; nothing waits for ever.

use std::time::Duration;

use protocol::limits::{MAX_PAYLOAD, MAX_TOPIC};

/// What the broker grants its peers. The defaults fit a realm of some ten thousand devices on a small machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have not finished their CONNECT; default 2,048. A handshake in flight costs about 10 KB, so
    /// silent peers cost at most 20 MB and are gone after [`Self::greeting`]. When there are that many, a newcomer gets the
    /// place of the oldest one of the address (of one /48 with IPv6) that has most: a few who are silent keep nobody out.
    pub handshakes: usize,
    /// Those of them that may be of one address (of one /64 with IPv6); default 256. A site of 10,000 devices behind one
    /// address is back in some ten seconds after a restart: a handshake takes a few milliseconds and some round trips,
    /// and who is turned away comes again.
    pub handshakes_per_address: usize,
    /// Connections in all; default 100,000, as [`Self::sessions`]. Each is one file descriptor: a service that is to have
    /// that many needs `LimitNOFILE` to say so, and without it the broker waits for others to leave.
    pub connections: usize,
    /// Those of them that may be of one address (of one /64 with IPv6); default 20,000: two sites of 10,000 devices behind
    /// one provider's address, or one whose old connections are not noticed to be dead yet. It takes five addresses to take
    /// all places, and a certificate for each.
    pub connections_per_address: usize,
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
    /// Topics and payloads that wait for all subscribers, or are not acknowledged, in bytes; default 512 MiB. Beyond it a
    /// session has `QUEUE_SHARE` and no more; many that are slow cost no memory of those who read.
    pub all_queues_bytes: usize,
    /// Retained messages that wait for one subscriber; default 100,000, the most there can be. They are shared with the
    /// store, so that one costs a pointer.
    pub queue_retained: usize,
    /// Topics with a retained message; default 100,000: one presence for each session.
    pub retained_messages: usize,
    /// All retained topics and payloads, in bytes; default 64 MiB: 100,000 of 640 bytes.
    pub retained_bytes: usize,
    /// How long what a client wants to be retained may take to be on the disk, before its connection is closed; default
    /// 30 s. A disk takes milliseconds, and a full or failing one is given some time: closed connections come back and
    /// ask for the same, and meanwhile everything else works.
    pub keeping: Duration,
    /// How long devices that were connected when the broker ended have to come back before their wills are published;
    /// default 2 min. A device notices a server that has vanished within two keepalives (60 s), then it tries for up to
    /// 10 s, and again after up to 30 s; the rest is for the handshakes of a fleet. Until then it is shown by its will
    /// to whoever asks, but nobody is told that it is lost.
    pub reconnect_window: Duration,
    /// Tokens that a device earns in a second, on whichever connection; default 500. One is some 20 µs of a core, so that a
    /// device takes 1 % of it. A message costs one for each KiB, and `RETAIN_TOKENS` more if it is retained; a PINGREQ one, and
    /// so does the acknowledgement of what was not sent; a CONNECT `CONNECT_TOKENS` and what its will costs; a filter
    /// `FILTER_TOKENS` and, in a SUBSCRIBE, what it finds. Who is faster is not read from until its time has come. That is
    /// 500 KiB a second; AWS IoT Core takes 512, and 100 messages.
    pub rate: u32,
    /// What a device may ask for beyond that when it has rested; default 1,000: one controller's view of a system of 9,000
    /// devices, or the messages that an agent has kept while it was away. Who owes as much again cannot connect.
    pub burst: u32,
    /// For how long a client may be slowed without a pause; default 30 s. Work ends by then; what goes on is a flood, and
    /// its connection is closed.
    pub flood: Duration,
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
            connections: 100_000,
            connections_per_address: 20_000,
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
            all_queues_bytes: 512 * 1024 * 1024,
            queue_retained: 100_000,
            retained_messages: 100_000,
            retained_bytes: 64 * 1024 * 1024,
            keeping: Duration::from_secs(30),
            reconnect_window: Duration::from_mins(2),
            rate: 500,
            burst: 1_000,
            flood: Duration::from_secs(30),
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

/// Bytes that may wait for one subscriber however much waits for all: it reads, or is cut by its own limits.
pub(crate) const QUEUE_SHARE: usize = 64 * 1024;

/// What a filter of a SUBSCRIBE or UNSUBSCRIBE costs in [`Limits::rate`], whatever it finds.
pub(crate) const FILTER_TOKENS: u32 = 10;

/// How many retained messages found cost one token: the decision whether the subscriber may receive one takes 4 µs.
pub(crate) const FOUND_PER_TOKEN: usize = 20;

/// How many retained messages looked at cost one token, found or not.
pub(crate) const WALKED_PER_TOKEN: usize = 100;

/// What a CONNECT costs: a handshake, and the changes of a session. Ten a second are more than any device needs.
pub(crate) const CONNECT_TOKENS: u32 = 40;

/// What a retained message costs beyond its size: it goes to the disk, and 40 a second are more than any device has states.
pub(crate) const RETAIN_TOKENS: u32 = 10;

/// Sources whose lines are counted one by one; beyond that they share one count. Each takes some hundred bytes.
pub(crate) const LINE_SOURCES: usize = 4_096;

/// Lines about one device or one address that are written at once, and the time after which it has one more: a stranger's
/// handshakes would fill the disk with some hundred thousand lines an hour.
pub(crate) const LINES: (u32, Duration) = (20, Duration::from_secs(10));

/// Bytes for a peer that wait outside its session, before its packets are no longer read; 64 KiB are about four of the
/// largest messages, and acknowledgements to a peer that only writes end there too.
pub(crate) const OUTBOUND_HIGH: usize = 64 * 1024;

/// Bytes read from a peer at once. Packets of devices have some hundred bytes.
pub(crate) const READ_CHUNK: usize = 4 * 1024;

/// Bytes that TLS may hold for a peer, so that [`Limits::write`] means progress on the link and not in memory.
pub(crate) const TLS_BUFFER: usize = 8 * 1024;

/// The largest PEM file, in bytes: a bundle of some hundred certificates.
pub(crate) const MAX_PEM: usize = 1024 * 1024;

/// The most certificates behind a device's own in its chain, and the most bytes of all: a ticket that resumes a TLS session
/// holds them, and a chain of four RSA-4096 certificates has 8 KiB.
pub(crate) const MAX_CHAIN: usize = 4;

/// See [`MAX_CHAIN`].
pub(crate) const MAX_CHAIN_BYTES: usize = 12 * 1024;

/// How often the files of certificates, lists and policies are looked at. One that has changed is used when it is the same
/// at two looks, so that none is read half written: whoever is revoked is gone within two seconds. A look costs
/// microseconds.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The pause after a look has panicked.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Sessions that are looked at in one go when there are other policies: a millisecond under the hub's lock.
pub(crate) const RECHECK_COUNT: usize = 256;

/// Connections that the kernel may hold ready for us: the fleet comes back at once after a restart.
pub(crate) const LISTEN_BACKLOG: u32 = 4_096;

/// Messages with `QoS` 1 of one connection that are not acknowledged because the disk has not taken them yet. Client libraries
/// send 10 to 100 before they wait themselves; what is beyond that waits in the link.
pub(crate) const MAX_UNKEPT: usize = 64;

/// How long a change that nobody waits for may gather others before it is written; what a crash may lose of these.
pub(crate) const STORE_LINGER: Duration = Duration::from_millis(100);

/// The pause after a transaction in which the next one gathers: at most some 200 of them a second, however many devices
/// come back, and nobody notices 5 ms.
pub(crate) const STORE_GATHER: Duration = Duration::from_millis(5);

/// The first and longest pause after a transaction failed, as on a full disk: each try reads the whole file to see whether it
/// is still good, some 10 ms for a MiB. The longest is less than [`Limits::keeping`].
pub(crate) const STORE_RETRY: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(10));

/// How long the last transactions may take when the broker ends: well within the grace period of a shutdown.
pub(crate) const STORE_FINISH: Duration = Duration::from_secs(5);

/// What the store's library keeps of its file in memory. Nothing is read after the start; it is for the pages of one
/// transaction.
pub(crate) const STORE_CACHE: usize = 4 * 1024 * 1024;

/// Wills of devices that did not come back which are published in one go: some milliseconds under the hub's lock.
pub(crate) const GIVE_UP_COUNT: usize = 256;

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
        assert!(limits.all_queues_bytes > limits.queue_bytes && limits.queue_bytes > QUEUE_SHARE);
        const { assert!(QUEUE_SHARE > MAX_PACKET) };
        assert!(limits.queue_retained >= limits.retained_messages);
        assert!(limits.retained_messages >= limits.sessions);
        assert!(limits.write < limits.idle && limits.close < limits.greeting);
        const { assert!(OUTBOUND_HIGH > MAX_PACKET) };
        assert!(limits.handshakes_per_address * 2 <= limits.handshakes);
        // The packet identifiers of what is in flight are never exhausted.
        assert!(limits.inflight < usize::from(u16::MAX));
    }

    /// `docs/brokers.md` has every limit with its number, in the order in which they stand here.
    #[test]
    fn the_document_has_them_all() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/brokers.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text
            .split_once("## Limits of the embedded broker\n")
            .unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            Some((name.to_owned(), cells.next()?.to_owned()))
        });
        let told: Vec<(String, String)> = rows.collect();
        assert_eq!(told, documented());
    }

    fn documented() -> Vec<(String, String)> {
        // Without `..`: who adds a limit has to write it down.
        let Limits {
            handshakes,
            handshakes_per_address,
            connections,
            connections_per_address,
            greeting,
            sessions,
            idle,
            write,
            close,
            session_expiry,
            subscriptions,
            inflight,
            queue_messages,
            queue_bytes,
            all_queues_bytes,
            queue_retained,
            retained_messages,
            retained_bytes,
            keeping,
            reconnect_window,
            rate,
            burst,
            flood,
            refused_filters,
            bus_queue,
        } = Limits::default();
        [
            ("handshakes", count(handshakes)),
            ("handshakes_per_address", count(handshakes_per_address)),
            ("connections", count(connections)),
            ("connections_per_address", count(connections_per_address)),
            ("greeting", time(greeting)),
            ("sessions", count(sessions)),
            ("idle", time(idle)),
            ("write", time(write)),
            ("close", time(close)),
            ("session_expiry", time(session_expiry)),
            ("subscriptions", count(subscriptions)),
            ("inflight", count(inflight)),
            ("queue_messages", count(queue_messages)),
            ("queue_bytes", size(queue_bytes)),
            ("all_queues_bytes", size(all_queues_bytes)),
            ("queue_retained", count(queue_retained)),
            ("retained_messages", count(retained_messages)),
            ("retained_bytes", size(retained_bytes)),
            ("keeping", time(keeping)),
            ("reconnect_window", time(reconnect_window)),
            ("rate", count(rate as usize)),
            ("burst", count(burst as usize)),
            ("flood", time(flood)),
            ("refused_filters", count(refused_filters as usize)),
            ("bus_queue", count(bus_queue)),
            ("MAX_PACKET", size(MAX_PACKET)),
            ("MAX_PAYLOAD", size(MAX_PAYLOAD)),
            ("MAX_TOPIC", size(MAX_TOPIC)),
            (
                "MAX_TOPIC_LEVELS",
                count(protocol::limits::MAX_TOPIC_LEVELS),
            ),
            ("MAX_FILTERS", count(MAX_FILTERS)),
            ("MAX_UNKEPT", count(MAX_UNKEPT)),
            ("MAX_CHAIN", count(MAX_CHAIN)),
            ("MAX_CHAIN_BYTES", size(MAX_CHAIN_BYTES)),
            ("MAX_PEM", size(MAX_PEM)),
        ]
        .map(|(name, number)| (name.to_owned(), number))
        .into()
    }

    fn count(number: usize) -> String {
        let digits = number.to_string();
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }

    fn time(duration: Duration) -> String {
        match duration.as_secs() {
            seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
            seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
            seconds => format!("{seconds} s"),
        }
    }

    fn size(bytes: usize) -> String {
        match bytes {
            bytes if bytes % (1024 * 1024) == 0 => format!("{} MiB", bytes / 1024 / 1024),
            bytes if bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
            bytes => format!("{} bytes", count(bytes)),
        }
    }
}
