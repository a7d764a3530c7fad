//! What the broker counts, for the metrics page and for tests.

use daemon::monitor::Counter;
use serde::Serialize;

use crate::histogram::{Histogram, HistogramSnapshot};

/// Declares the counters once, with their names on the metrics page and a snapshot of the same fields.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $metric:literal,)+) => {
        /// All counters. Each is exact; together they are of about the same moment.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
            pub(crate) handshake_time: Histogram,
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct CounterSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// How long the TLS handshakes that succeeded took, the network's part included.
            pub handshake_time: HistogramSnapshot,
        }

        impl CounterSnapshot {
            /// Each with its name on the metrics page, and what it means.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((concat!("tunnel_broker_", $metric), concat!($($doc),+), self.$name)),+].into_iter()
            }
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> CounterSnapshot {
                CounterSnapshot {
                    $($name: self.$name.get(),)+
                    handshake_time: self.handshake_time.snapshot(),
                }
            }
        }
    };
}

counters! {
    /// Times that files which had changed, or that somebody asked for, were read again and used.
    reloads = "reloads_total",
    /// Times that they could not be used.
    reload_failures = "reload_failures_total",
    /// TCP connections accepted.
    accepted = "accepted_connections_total",
    /// Times that accepting failed, as with no file descriptor left.
    accept_errors = "accept_errors_total",
    /// Connections closed because too many had not finished their CONNECT: at once, or to make room.
    refused_full = "refused_full_total",
    /// Connections closed at once because their address had its share, of all or of those without a CONNECT.
    refused_address = "refused_address_total",
    /// Connections closed at once because there were too many.
    refused_connections = "refused_connections_total",
    /// Connections that are past their CONNECT now.
    connected = "connections",
    /// Sessions now, connected or kept.
    sessions = "sessions",
    /// TLS handshakes that failed or were not finished in time, and connections without a CONNECT in time.
    greetings_failed = "failed_greetings_total",
    /// TLS handshakes that succeeded.
    handshakes = "handshakes_total",
    /// Those of them that resumed an earlier session.
    resumed = "resumed_handshakes_total",
    /// Certificates that are not an authority's, not good at the time, or revoked.
    refused_certificates = "refused_certificates_total",
    /// Certificates of an authority of ours that are no device's of this realm.
    refused_peers = "refused_peers_total",
    /// Connections ended because their certificate was revoked.
    revoked = "revoked_connections_total",
    /// Connections ended because the authority of their certificate is trusted no more.
    distrusted = "distrusted_connections_total",
    /// Connections ended because new policies do not permit what they have.
    forbidden = "forbidden_connections_total",
    /// CONNECTs refused for their client id or by policy.
    refused_connects = "refused_connects_total",
    /// CONNECTs refused for their protocol version.
    refused_versions = "refused_versions_total",
    /// CONNECTs refused for their will.
    refused_wills = "refused_wills_total",
    /// Messages refused; each ended its connection.
    refused_publishes = "refused_messages_total",
    /// Filters refused.
    refused_filters = "refused_filters_total",
    /// CONNECTs refused because there are too many sessions, or the broker is draining.
    refused_load = "refused_load_total",
    /// Connections ended for a packet that MQTT 3.1.1 forbids.
    malformed = "malformed_connections_total",
    /// Connections ended because the same client connected again.
    taken_over = "taken_over_connections_total",
    /// Connections ended because their client was silent for too long.
    silent = "silent_connections_total",
    /// Connections ended because their client did not read.
    slow = "slow_connections_total",
    /// Times that a client was slowed because it asked for too much.
    slowed = "slowed_total",
    /// Connections ended because that did not help.
    floods = "flooding_connections_total",
    /// CONNECTs refused because the device has asked for too much before.
    refused_floods = "refused_floods_total",
    /// Messages accepted from devices, wills included.
    published = "published_messages_total",
    /// Connections ended because the store could not take their retained message in time.
    unkept = "unkept_connections_total",
    /// Transactions of the store.
    store_commits = "store_commits_total",
    /// Transactions of the store that failed.
    store_failures = "store_failures_total",
    /// Wills of an earlier broker's sessions that are neither published nor taken over, now.
    held_wills = "held_wills",
    /// Wills published.
    wills = "published_wills_total",
    /// Wills that were not, because the policies of the time did not permit them any more.
    withdrawn_wills = "withdrawn_wills_total",
    /// Messages sent to devices, repetitions included.
    delivered = "delivered_messages_total",
    /// Deliveries that policy forbade, though a filter asked for them.
    withheld = "withheld_messages_total",
    /// Messages that a full queue of a client could not take.
    dropped = "dropped_messages_total",
    /// Topics with a retained message now.
    retained_messages = "retained_messages",
    /// What they weigh now, in bytes.
    retained_bytes = "retained_bytes",
    /// Retained messages that the full store could not take.
    retained_refused = "refused_retained_messages_total",
    /// Messages that did not fit on the way to the bus at once; retained ones follow later.
    bus_delayed = "delayed_bus_messages_total",
}

/// What waits for clients at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueDepths {
    /// Sessions for which something waits.
    pub sessions: u64,
    /// Messages that wait.
    pub messages: u64,
    /// Topics and payloads of those that are not from the retained store, in bytes.
    pub bytes: u64,
    /// Messages that are sent and not acknowledged.
    pub inflight: u64,
    /// The most messages that wait for one session.
    pub longest: u64,
}

impl QueueDepths {
    /// Adds one session's queue.
    pub(crate) fn add(&mut self, messages: usize, bytes: usize, inflight: usize) {
        let [messages, bytes, inflight] = [messages, bytes, inflight].map(|count| count as u64);
        self.sessions += u64::from(messages > 0);
        self.messages += messages;
        self.bytes += bytes;
        self.inflight += inflight;
        self.longest = self.longest.max(messages);
    }
}
