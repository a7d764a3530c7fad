//! What the broker counts, for the metrics page and for tests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

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

    fn get(&self) -> u64 {
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
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct CounterSnapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> CounterSnapshot {
                CounterSnapshot { $($name: self.$name.get(),)+ }
            }
        }
    };
}

counters! {
    /// TCP connections accepted.
    accepted,
    /// Times that accepting failed, as with no file descriptor left.
    accept_errors,
    /// Connections closed at once because too many had not finished their CONNECT.
    refused_full,
    /// Connections that are past their CONNECT now.
    connected,
    /// Sessions now, connected or kept.
    sessions,
    /// TLS handshakes that failed or were not finished in time, and connections without a CONNECT in time.
    greetings_failed,
    /// TLS handshakes that succeeded.
    handshakes,
    /// What they took together, in microseconds.
    handshake_micros,
    /// Certificates of an authority of ours that are no device's of this realm.
    refused_peers,
    /// Connections ended because their certificate was revoked.
    revoked,
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
    /// Messages accepted from devices, wills included.
    published,
    /// Wills published.
    wills,
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
