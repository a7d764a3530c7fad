//! Log lines on stderr: for people by default, JSON on request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use self::journal::Prioritized;

mod journal;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `verbosity` 0 tells what an operator must know, 1 what happens to each tunnel, 2 what each part does;
/// the environment variable `TUNNEL_LOG` overrides it.
pub fn start(format: LogFormat, default: Verbosity, verbosity: u8) -> Result<(), LogFilterError> {
    let level = match default as u8 + verbosity {
        0 => "error",
        1 => {
            "warn,tunnel=info,agent=info,broker=info,cli=info,controller=info,daemon=info,enrollment=info,proxy=info,shell=info,signer=info,rumqttd=error,russh=error"
        }
        2 => {
            "info,tunnel=debug,agent=debug,broker=debug,cli=debug,controller=debug,daemon=debug,enrollment=debug,proxy=debug,shell=debug,signer=debug,rumqttd=error,russh=error"
        }
        _ => "debug",
    };
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) => {
            EnvFilter::try_new(&filter).map_err(|source| LogFilterError { filter, source })?
        }
        Err(_) => EnvFilter::new(level),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(SystemTime)
        // It would be told on stderr too, and panic if that is what cannot be written, as on a full disk.
        .log_internal_errors(false);
    // A second call, as in tests, leaves the first in place.
    let _ = match (format, journal::is_stderr()) {
        (LogFormat::Human, false) => lines.try_init(),
        (LogFormat::Human, true) => lines
            .without_time()
            .map_event_format(Prioritized)
            .try_init(),
        (LogFormat::Json, false) => lines.json().flatten_event(true).try_init(),
        (LogFormat::Json, true) => lines
            .json()
            .flatten_event(true)
            .without_time()
            .map_event_format(Prioritized)
            .try_init(),
    };
    Ok(())
}

/// The environment's filter is none.
#[derive(Debug, thiserror::Error)]
#[error("the environment variable `{VARIABLE}` is no filter of log lines: `{filter}`")]
pub struct LogFilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Overrides what is logged, in the form of `tracing`'s filters, e.g. `debug` or `agent=trace`.
const VARIABLE: &str = "TUNNEL_LOG";

/// How much is told without `-v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verbosity {
    /// Errors only: a command that somebody waits for prints its own lines.
    Command = 0,
    /// What an operator must know.
    Daemon = 1,
}
