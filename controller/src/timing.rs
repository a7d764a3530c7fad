//! How long each step of a connection took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// A step of a connection. Some run beside each other, so that their times do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Configuration and keys are read.
    Config,
    /// TCP, TLS, CONNECT and SUBSCRIBE with the broker.
    MqttConnect,
    /// From there to the answer to the order, which went out behind SUBSCRIBE: the agent dials the proxy meanwhile.
    Order,
    /// TCP, key exchange and authentication with the proxy, beside the two before.
    ProxyLogin,
    /// From the request for a stream to its confirmation. The request may wait at the proxy, beside the order.
    Stream,
    /// From the confirmation to the first byte of the service.
    Banner,
}

/// Collects the times; clones write into the same.
#[derive(Clone, Debug)]
pub struct Timing {
    began: Instant,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Debug, Default)]
struct Recorded {
    steps: Vec<Timed>,
    last: Option<Instant>,
}

#[derive(Clone, Debug, Serialize)]
struct Timed {
    name: Step,
    ms: f64,
}

#[derive(Serialize)]
struct Report<'a> {
    total_ms: f64,
    steps: &'a [Timed],
}

impl Timing {
    /// Begins to count.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            recorded: Arc::default(),
        }
    }

    /// A step that began then has ended now.
    pub fn record(&self, name: Step, began: Instant) {
        let now = Instant::now();
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.steps.push(Timed {
            name,
            ms: millis(now - began),
        });
        recorded.last = Some(now);
    }

    /// When the counting began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// One line of JSON: `{"total_ms":…,"steps":[{"name":"order","ms":…},…]}`. The total ends with the step that was
    /// recorded last.
    pub fn to_json(&self) -> String {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let total_ms = millis(
            recorded
                .last
                .map_or(Duration::ZERO, |last| last - self.began),
        );
        serde_json::to_string(&Report {
            total_ms,
            steps: &recorded.steps,
        })
        .unwrap_or_default()
    }
}

fn millis(duration: Duration) -> f64 {
    // Three decimals are microseconds, beyond which nothing here is meaningful.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
