//! Files that change while the broker runs. They are looked at every so often, and read at once when somebody asks for it.
//!
//! What cannot be used changes nothing: the last good one stays, and an error says so. Nobody is dropped by a change but
//! those who would not be let in by what the files say now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::report::one_line;
use policies::{PolicySet, RoleDocument};
use protocol::Label;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::{BrokerConfig, Pem};
use crate::counters::Counters;
use crate::greeting::Door;
use crate::limits::{LOOK_AGAIN, LOOK_INTERVAL};
use crate::policy_files::{self, PoliciesError};
use crate::tls::{self, Front};
use crate::trust::Trust;

/// Asks the broker to read its files again at once. Clones ask the same broker.
#[derive(Clone, Debug, Default)]
pub struct ReloadBell(Arc<Notify>);

/// Where everything is that may change.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    certificates: Pem,
    key: Pem,
    client_authorities: Pem,
    revocations: Option<PathBuf>,
    policies: Option<PathBuf>,
    realm: Label,
}

/// Watches the files for a door.
pub(crate) struct Reloader {
    sources: Sources,
    door: Arc<Door>,
    bell: ReloadBell,
    watched: Watched,
}

/// The three groups of files that belong together.
#[derive(Debug)]
pub(crate) struct Watched {
    identity: Group,
    trust: Group,
    policies: Group,
    /// The realm's own policies that were there when the policies were read.
    own: Vec<PathBuf>,
}

/// Files of which all are read when one has changed.
#[derive(Debug)]
struct Group {
    paths: Vec<PathBuf>,
    /// As they were when they were read last, whatever came of it.
    read: Stamps,
    /// As they were at the last look.
    seen: Stamps,
}

/// By what a changed file is known: inode, size, and the times of its last change of content and of status.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// Of each file; None for one that is not there.
type Stamps = Vec<Option<Stamp>>;

impl ReloadBell {
    /// Asks.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

impl Sources {
    pub(crate) fn of(config: &BrokerConfig) -> Self {
        Self {
            certificates: config.certificates.clone(),
            key: config.key.clone(),
            client_authorities: config.client_authorities.clone(),
            revocations: config.revocations.clone(),
            policies: config.policies.clone(),
            realm: config.realm.clone(),
        }
    }

    /// How the files are now; to be called before they are read for the first time.
    pub(crate) fn watch(&self) -> Watched {
        let policies = self.policies.iter().flat_map(|directory| {
            let files = RoleDocument::ALL.map(|role| policy_files::path(directory, role));
            // A file more or less changes the directory.
            files.into_iter().chain([directory.clone()])
        });
        let pems = |pems: &[&Pem]| -> Vec<PathBuf> {
            pems.iter()
                .filter_map(|pem| pem.path())
                .map(Path::to_owned)
                .collect()
        };
        let mut trust = pems(&[&self.client_authorities]);
        trust.extend(self.revocations.clone());
        Watched {
            identity: Group::new(pems(&[&self.certificates, &self.key])),
            trust: Group::new(trust),
            policies: Group::new(policies.collect()),
            own: self.own_policies(),
        }
    }

    fn own_policies(&self) -> Vec<PathBuf> {
        let directory = self.policies.as_deref();
        let own = |role| policy_files::own(directory?, role).ok().flatten();
        RoleDocument::ALL.into_iter().filter_map(own).collect()
    }

    /// The policies, unless one that decided has gone: whoever writes a new one may not have finished, and the program's own
    /// may permit more. A restart takes it as it is.
    fn load_policies(&self, before: &[PathBuf]) -> Result<PolicySet, PoliciesError> {
        let now = self.own_policies();
        if let Some(path) = before.iter().find(|path| !now.contains(path)) {
            return Err(PoliciesError::Gone { path: path.clone() });
        }
        policy_files::load_policies(self.policies.as_deref(), &self.realm)
    }
}

impl Reloader {
    pub(crate) fn new(sources: Sources, watched: Watched, door: Arc<Door>) -> Self {
        Self {
            sources,
            door,
            bell: ReloadBell::default(),
            watched,
        }
    }

    pub(crate) fn bell(&self) -> ReloadBell {
        self.bell.clone()
    }

    /// Looks, reads and applies. Never completes.
    pub(crate) async fn watch(self) {
        let Self {
            sources,
            door,
            bell,
            watched,
        } = self;
        let hub = Arc::clone(&door.hub);
        let again = sources.clone();
        let look = move |watched: &mut Watched, asked| look(&sources, &door, watched, asked);
        keep_looking(&hub.counters, &bell, watched, || again.watch(), look).await;
    }
}

impl Group {
    fn new(paths: Vec<PathBuf>) -> Self {
        let read = stamps(&paths);
        Self {
            paths,
            seen: read.clone(),
            read,
        }
    }

    /// Whether the files are to be read: they have changed since they were, and not since the last look.
    fn is_due(&mut self, asked: bool) -> bool {
        let now = stamps(&self.paths);
        let due = asked || (now != self.read && now == self.seen);
        if due {
            self.read.clone_from(&now);
        }
        self.seen = now;
        due
    }
}

/// Never completes. A look that panics is a fault of ours, and no reason to let in who is revoked from then on: after a
/// while everything is read as if somebody had asked.
async fn keep_looking<W: Send + 'static>(
    counters: &Counters,
    bell: &ReloadBell,
    mut watched: W,
    again: impl Fn() -> W,
    look: impl Fn(&mut W, bool) + Clone + Send + 'static,
) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            () = bell.0.notified() => true,
        };
        let asked = asked || std::mem::take(&mut failed);
        let look = look.clone();
        let looked = spawn_blocking(move || {
            look(&mut watched, asked);
            watched
        });
        match looked.await {
            Ok(after) => watched = after,
            Err(error) => {
                counters.reload_failures.increment();
                tracing::error!(%error, "files could not be read again");
                sleep(LOOK_AGAIN).await;
                failed = true;
                watched = again();
            }
        }
    }
}

fn look(sources: &Sources, door: &Door, watched: &mut Watched, asked: bool) {
    if watched.identity.is_due(asked) {
        let front = door.front();
        match tls::identity(&sources.certificates, &sources.key)
            .and_then(|identity| Front::new(identity, Arc::clone(&front.trust)))
        {
            Ok(front) => {
                door.replace(front);
                door.hub.counters.reloads.increment();
                tracing::info!("the broker's certificate and key have been read again");
            }
            Err(error) => refused(door, "certificate and key", &error),
        }
    }
    if watched.trust.is_due(asked) {
        let front = door.front();
        let before = &front.trust;
        let (authorities, list) = (&sources.client_authorities, sources.revocations.as_deref());
        match Trust::load(authorities, list, Some(before)) {
            Ok(now) => trust(door, &front, now),
            Err(error) => refused(door, "authorities and revocation list", &error),
        }
    }
    if watched.policies.is_due(asked) {
        match sources.load_policies(&watched.own) {
            Ok(policies) => {
                watched.own = sources.own_policies();
                if door.hub.gate.replace(policies) {
                    door.hub.recheck();
                }
                door.hub.counters.reloads.increment();
                tracing::info!("the policies have been read again");
            }
            Err(error) => refused(door, "policies", &error),
        }
    }
}

fn trust(door: &Door, front: &Front, now: Trust) {
    let (authorities, revoked) = (now.authorities().len(), now.revoked());
    let now = Arc::new(now);
    match Front::new(Arc::clone(&front.identity), Arc::clone(&now)) {
        Ok(next) => {
            // Newcomers first: who is in the hub by then is seen by the second line, and who is not by the first.
            door.replace(next);
            let change = now.since(&front.trust);
            door.hub.cut_where(|client| change.objection(client.peer()));
            door.hub.counters.reloads.increment();
            tracing::info!(
                authorities,
                revoked,
                "authorities and revocation list have been read again"
            );
        }
        Err(error) => refused(door, "authorities and revocation list", &error),
    }
}

fn refused(door: &Door, what: &str, error: &dyn std::error::Error) {
    door.hub.counters.reload_failures.increment();
    tracing::error!(
        error = one_line(error),
        "{what} cannot be used: the last good ones stay in use"
    );
}

fn stamps(paths: &[PathBuf]) -> Stamps {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let status = fs::metadata(path).ok()?;
    Some((
        status.ino(),
        status.size(),
        status.mtime(),
        status.mtime_nsec(),
        status.ctime(),
        status.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_does_not_end_it_and_all_is_read_after_it() {
        let (counters, bell) = (Counters::default(), ReloadBell::default());
        let (looks, read) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let look = {
            let (looks, read) = (Arc::clone(&looks), Arc::clone(&read));
            move |(): &mut (), asked: bool| {
                assert!(looks.fetch_add(1, Ordering::Relaxed) != 1, "on purpose");
                read.fetch_add(usize::from(asked), Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = keep_looking(&counters, &bell, (), || (), look) => {}
            () = sleep(LOOK_AGAIN * 3) => {}
        }
        assert!(looks.load(Ordering::Relaxed) > 3);
        assert_eq!(read.load(Ordering::Relaxed), 1);
        assert_eq!(counters.snapshot().reload_failures, 1);
    }

    #[test]
    fn a_change_is_due_when_it_has_settled_and_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.pem");
        fs::write(&path, "1").unwrap();
        let mut group = Group::new(vec![path.clone(), home.path().join("none")]);
        assert!(!group.is_due(false));
        fs::write(&path, "12").unwrap();
        assert!(!group.is_due(false), "somebody may still be writing");
        fs::write(&path, "123").unwrap();
        assert!(!group.is_due(false), "somebody was");
        assert!(group.is_due(false));
        assert!(!group.is_due(false), "whatever came of it");
        fs::remove_file(&path).unwrap();
        assert!(!group.is_due(false) && group.is_due(false));
        fs::write(&path, "1").unwrap();
        assert!(group.is_due(true), "who asks does not wait");
        assert!(!group.is_due(false));
    }
}
