//! What was meant as a request and is not named like one: nobody serves it, and its author is told so.

use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use enrollment::registry::within_limit;
use enrollment::{Registry, RegistryError};

use crate::turn::Courtesy;

/// Tells everybody who has put something under a wrong name, once.
pub(crate) async fn refuse(
    registry: &impl Registry,
    courtesy: &mut Courtesy,
    shutdown: Option<&Shutdown>,
) {
    if let Err(error) = try_refuse(registry, courtesy, shutdown).await {
        let error = one_line(&error);
        tracing::warn!(
            error,
            "cannot tell whose files and issues have a wrong name"
        );
    }
}

async fn try_refuse(
    registry: &impl Registry,
    courtesy: &mut Courtesy,
    shutdown: Option<&Shutdown>,
) -> Result<(), RegistryError> {
    for misnamed in within_limit(registry.misnamed()).await? {
        if courtesy.is_over() || shutdown.is_some_and(Shutdown::is_requested) {
            break;
        }
        let name = misnamed.shown();
        match within_limit(registry.refuse_misnamed(&misnamed)).await {
            Ok(true) => {
                courtesy.spend();
                let (author, refusal) = (misnamed.author(), misnamed.refusal());
                tracing::warn!(name, %author, reason = refusal.reason(), "not served: no title");
            }
            Ok(false) => {}
            // The others would fail in the same way.
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                courtesy.spend();
                let error = one_line(&error);
                tracing::warn!(name, error, "cannot tell that a name is no title");
            }
        }
    }
    Ok(())
}
