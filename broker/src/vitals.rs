//! What the broker says of itself on the metrics page.

use std::time::Duration;

use daemon::monitor::{Page, Source};
use tokio::sync::watch;

use crate::broker::CounterView;
use crate::histogram::HistogramSnapshot;

/// The broker's part of the monitor. It is ready as long as it runs: what it needs is loaded before, and the monitor itself says
/// that a daemon starts or stops.
pub struct Vitals {
    counters: CounterView,
    online: watch::Receiver<usize>,
}

impl Vitals {
    pub(crate) fn new(counters: CounterView, online: watch::Receiver<usize>) -> Self {
        Self { counters, online }
    }
}

impl Source for Vitals {
    fn unready(&self) -> Option<String> {
        None
    }

    fn write(&self, page: &mut Page) {
        let online = *self.online.borrow();
        page.number(
            "tunnel_broker_devices_online",
            "Devices whose presence says that they are online.",
            online,
        );
        let counters = self.counters.snapshot();
        for (name, help, value) in counters.each() {
            page.number(name, help, value);
        }
        page.durations(
            "tunnel_broker_handshake_duration_seconds",
            "How long the TLS handshakes that succeeded took, the network's part included.",
            &HistogramSnapshot::BOUNDS,
            &counters.handshake_time.counts,
            Duration::from_micros(counters.handshake_time.micros),
        );
        let queues = self.counters.queues();
        for (name, help, level) in [
            (
                "tunnel_broker_queued_messages",
                "Messages that wait for clients.",
                queues.messages,
            ),
            (
                "tunnel_broker_queued_bytes",
                "What they weigh, without those of the retained store.",
                queues.bytes,
            ),
            (
                "tunnel_broker_unacknowledged_messages",
                "Messages that are sent and not acknowledged.",
                queues.inflight,
            ),
            (
                "tunnel_broker_longest_queue_messages",
                "The most messages that wait for one session.",
                queues.longest,
            ),
        ] {
            page.number(name, help, level);
        }
    }
}
