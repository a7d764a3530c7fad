//! SSH keys that the realm's proxies leave out. These may not write into the registry, so that the signer says why.

use std::sync::Arc;

use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use enrollment::registry::within_limit;
use enrollment::{Decision, DeviceKey, Entry, Kind, Refusal, Registry, RegistryError};
use tokio::task::spawn_blocking;

use crate::Rules;
use crate::turn::Courtesy;

/// Tells the author of each key that does not count why it does not, once.
pub(crate) async fn refuse(
    registry: &impl Registry,
    rules: &Arc<Rules>,
    courtesy: &mut Courtesy,
    shutdown: Option<&Shutdown>,
) {
    if let Err(error) = try_refuse(registry, rules, courtesy, shutdown).await {
        let error = one_line(&error);
        tracing::warn!(error, "cannot tell whose keys do not count");
    }
}

async fn try_refuse(
    registry: &impl Registry,
    rules: &Arc<Rules>,
    courtesy: &mut Courtesy,
    shutdown: Option<&Shutdown>,
) -> Result<(), RegistryError> {
    let entries = within_limit(registry.list(Kind::SshPublicKey)).await?;
    let rules = Arc::clone(rules);
    let refused: Vec<(Entry, Refusal)> = spawn_blocking(move || {
        let judged = entries.into_iter().map(|entry| {
            let refusal = fault(&rules, &entry)?;
            Some((entry, refusal))
        });
        judged.flatten().collect()
    })
    .await
    .map_err(|_| RegistryError::Cut)?;
    for (entry, refusal) in refused {
        if courtesy.is_over() || shutdown.is_some_and(Shutdown::is_requested) {
            break;
        }
        if let Err(error) = tell(registry, &entry, &refusal, courtesy).await {
            // The others would fail in the same way.
            if error.is_passing() {
                return Err(error);
            }
            let reason = one_line(&error);
            tracing::warn!(title = %entry.title, error = reason, "cannot tell that a key does not count");
        }
    }
    Ok(())
}

async fn tell(
    registry: &impl Registry,
    entry: &Entry,
    refusal: &Refusal,
    courtesy: &mut Courtesy,
) -> Result<(), RegistryError> {
    let (title, revision) = (&entry.title, &entry.revision);
    let told = within_limit(registry.refusal(title, revision)).await?;
    if told.is_some() {
        return Ok(());
    }
    courtesy.spend();
    tracing::warn!(%title, author = %entry.author, reason = refusal.reason(), "key refused");
    within_limit(registry.refuse(title, revision, refusal)).await
}

/// Why this key does not count, as its author is told. While nobody has decided there is nothing to tell.
fn fault(rules: &Rules, entry: &Entry) -> Option<Refusal> {
    let id = entry.title.id();
    if *id.realm() != rules.realm {
        return None;
    }
    match rules.permission.decided(&entry.author, id) {
        Decision::Undecided => None,
        Decision::Refused => Some(Refusal::new(
            &format!("{} may not upload a key for `{id}`", entry.author),
            "ask the realm's administrator for the permission, then run `tunnel enroll` again",
        )),
        Decision::Permitted => {
            let reason = match &entry.body {
                Err(fault) => format!("its text cannot be used: {fault}"),
                Ok(body) => DeviceKey::parse(id, body).err()?.to_string(),
            };
            Some(Refusal::new(
                &reason,
                "hand in one public key on one line, as `tunnel enroll` does",
            ))
        }
    }
}
