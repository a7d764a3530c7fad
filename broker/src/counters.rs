//! What the broker counts, for the metrics page and for tests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::histogram::{Histogram, HistogramSnapshot};

/// One number that only goes up, or a level that goes both ways.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, level: usize) {
        self.0.store(level as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters once, with a snapshot of the same fields.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
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
    reloads,
    /// Times that they could not be used.
    reload_failures,
    /// TCP connections accepted.
    accepted,
    /// Times that accepting failed, as with no file descriptor left.
    accept_errors,
    /// Connections closed because too many had not finished their CONNECT: at once, or to make room.
    refused_full,
    /// Connections closed at once because their address had its share, of all or of those without a CONNECT.
    refused_address,
    /// Connections closed at once because there were too many.
    refused_connections,
    /// Connections that are past their CONNECT now.
    connected,
    /// Sessions now, connected or kept.
    sessions,
    /// TLS handshakes that failed or were not finished in time, and connections without a CONNECT in time.
    greetings_failed,
    /// TLS handshakes that succeeded.
    handshakes,
    /// Those of them that resumed an earlier session.
    resumed,
    /// Certificates that are not an authority's, not good at the time, or revoked.
    refused_certificates,
    /// Certificates of an authority of ours that are no device's of this realm.
    refused_peers,
    /// Connections ended because their certificate was revoked.
    revoked,
    /// Connections ended because the authority of their certificate is trusted no more.
    distrusted,
    /// Connections ended because new policies do not permit what they have.
    forbidden,
    /// CONNECTs refused for their client id or by policy.
    refused_connects,
    /// CONNECTs refused for their protocol version.
    refused_versions,
    /// CONNECTs refused for their will.
    refused_wills,
    /// Messages refused; each ended its connection.
    refused_publishes,
    /// Filters refused.
    refused_filters,
    /// CONNECTs refused because there are too many sessions, or the broker is draining.
    refused_load,
    /// Connections ended for a packet that MQTT 3.1.1 forbids.
    malformed,
    /// Connections ended because the same client connected again.
    taken_over,
    /// Connections ended because their client was silent for too long.
    silent,
    /// Connections ended because their client did not read.
    slow,
    /// Times that a client was slowed because it asked for too much.
    slowed,
    /// Connections ended because that did not help.
    floods,
    /// CONNECTs refused because the device has asked for too much before.
    refused_floods,
    /// Messages accepted from devices, wills included.
    published,
    /// Connections ended because the store could not take their retained message in time.
    unkept,
    /// Transactions of the store.
    store_commits,
    /// Transactions of the store that failed.
    store_failures,
    /// Wills of an earlier broker's sessions that are neither published nor taken over, now.
    held_wills,
    /// Wills published.
    wills,
    /// Wills that were not, because the policies of the time did not permit them any more.
    withdrawn_wills,
    /// Messages sent to devices, repetitions included.
    delivered,
    /// Deliveries that policy forbade, though a filter asked for them.
    withheld,
    /// Messages that a full queue of a client could not take.
    dropped,
    /// Topics with a retained message now.
    retained_messages,
    /// What they weigh now, in bytes.
    retained_bytes,
    /// Retained messages that the full store could not take.
    retained_refused,
    /// Messages that did not fit on the way to the bus at once; retained ones follow later.
    bus_delayed,
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
