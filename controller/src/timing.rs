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
    /// From the order to its answer: the agent dials the proxy meanwhile.
    Order,
    /// TCP, key exchange and authentication with the proxy, beside the two before.
    ProxyLogin,
    /// From the request for a stream to its confirmation: the agent dials its service meanwhile.
    Stream,
    /// From there to the first byte of the service.
    Banner,
}

/// Collects the times; clones write into the same.
#[derive(Clone, Debug)]
pub struct Timing {
    began: Instant,
    steps: Arc<Mutex<Vec<Timed>>>,
}

#[derive(Clone, Debug, Serialize)]
struct Timed {
    name: Step,
    ms: f64,
}

#[derive(Serialize)]
struct Report {
    total_ms: f64,
    steps: Vec<Timed>,
}

impl Timing {
    /// Begins to count.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            steps: Arc::default(),
        }
    }

    /// A step that began then has ended now.
    pub fn record(&self, name: Step, began: Instant) {
        let ms = millis(began.elapsed());
        self.steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Timed { name, ms });
    }

    /// When the counting began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// One line of JSON: `{"total_ms":…,"steps":[{"name":"order","ms":…},…]}`. The total ends with the last step.
    pub fn to_json(&self, total: Duration) -> String {
        let steps = self
            .steps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        serde_json::to_string(&Report {
            total_ms: millis(total),
            steps,
        })
        .unwrap_or_default()
    }
}

fn millis(duration: Duration) -> f64 {
    // Three decimals are microseconds, beyond which nothing here is meaningful.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
