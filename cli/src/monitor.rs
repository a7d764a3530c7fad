//! The listener that a daemon's files or arguments ask for.

use std::net::SocketAddr;

use daemon::monitor::{Monitor, MonitorError, Place, Pulse};
use daemon::shutdown::Shutdown;

use crate::exit;
use crate::failure::Failure;
use crate::output;

/// Where the monitor listens, if anywhere; refused where others could ask and nobody has said so.
pub(crate) fn place(address: Option<SocketAddr>, public: bool) -> Result<Option<Place>, Failure> {
    Ok(address
        .map(|address| Place::new(address, public))
        .transpose()?)
}

/// Listens, and says where.
pub(crate) async fn bind(
    place: Option<Place>,
    pulse: &Pulse,
    shutdown: &Shutdown,
) -> Result<Option<Monitor>, Failure> {
    let Some(place) = place else {
        return Ok(None);
    };
    let monitor = Monitor::bind(place, pulse.clone(), shutdown).await?;
    output::line(format_args!(
        "metrics listening on {}",
        monitor.local_addr()
    ));
    Ok(Some(monitor))
}

impl From<MonitorError> for Failure {
    fn from(error: MonitorError) -> Self {
        let hint = error.hint();
        Self::new(error, hint, exit::CONFIG)
    }
}
