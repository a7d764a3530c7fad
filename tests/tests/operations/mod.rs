//! What somebody needs who looks after daemons: numbers, health, logs, changed files.

mod metrics;
mod monitored;
mod pressure;
