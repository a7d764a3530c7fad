//! What somebody needs who looks after daemons: numbers, health, logs, changed files.

mod logs;
mod metrics;
mod monitored;
mod pressure;
mod reload;
