//! The service: one SSH connection for each socket that it is given.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use daemon::flow::Flow;
use daemon::ssh::server_config;
use russh::Disconnect;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Config, RunningSession, run_stream};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, interval, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controllers::Controllers;
use crate::forward::Forwarding;
use crate::limits::{GOODBYE, KEY_LOOK, Limits};
use crate::process::OURSELVES;
use crate::session::{Admitted, TurnedDown, Visitor};
use crate::strangers::{Stranger, Strangers};
use crate::user::User;

/// What the service is made of.
#[derive(Debug)]
pub struct Settings {
    /// What it proves itself with.
    pub host_key: PrivateKey,
    /// Who may log in.
    pub controllers: Controllers,
    /// As whom: the user who runs this process.
    pub user: User,
    /// Where streams may be forwarded to.
    pub forwarding: Forwarding,
}

/// The built-in ssh service. Clones are the same.
#[derive(Clone)]
pub struct Server {
    ssh: Arc<Config>,
    house: Arc<House>,
    strangers: Strangers,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) controllers: Controllers,
    pub(crate) user: User,
    pub(crate) forwarding: Forwarding,
    /// What sessions' processes are started from.
    pub(crate) executable: PathBuf,
    pub(crate) limits: Limits,
    /// Places of those who have logged in.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) processes: Arc<Semaphore>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed")]
    Closed,
    #[error("not logged in in time")]
    TooSlow,
    #[error("too many others have not logged in either")]
    Displaced,
    #[error("{0}")]
    Refused(TurnedDown),
    #[error("its key was withdrawn")]
    Withdrawn,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("house", &self.house)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A service with these settings.
    pub fn new(settings: Settings) -> Self {
        Self::within(Limits::default(), settings, OURSELVES.into())
    }

    fn within(limits: Limits, settings: Settings, executable: PathBuf) -> Self {
        let Settings {
            host_key,
            controllers,
            user,
            forwarding,
        } = settings;
        Self {
            ssh: server_config(vec![host_key]),
            house: Arc::new(House {
                controllers,
                user,
                forwarding,
                executable,
                limits,
                connections: Arc::new(Semaphore::new(limits.connections)),
                processes: Arc::new(Semaphore::new(limits.processes)),
            }),
            strangers: Strangers::new(limits.strangers),
        }
    }

    /// Serves one connection to its end. When the future is dropped, its sessions end too.
    pub async fn serve(&self, socket: UnixStream, originator: &str) {
        let stranger = self.strangers.enter(originator);
        let (stream, flow) = match Flow::over_local(socket) {
            Ok(over) => over,
            Err(error) => {
                tracing::warn!(originator, %error, "a connection could not be set up");
                return;
            }
        };
        let deadline = Instant::now() + self.house.limits.login;
        let (sender, admitted) = oneshot::channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // Whatever way this ends, no session is left behind.
        let _stopped = stop.clone().drop_guard();
        let visitor = Visitor::new(
            Arc::clone(&self.house),
            flow.clone(),
            tasks.clone(),
            stop.clone(),
            sender,
        );
        let started = run_stream(Arc::clone(&self.ssh), stream, visitor);
        let started = tokio::select! {
            started = timeout_at(deadline, Box::pin(started)) => started,
            () = stranger.displaced() => return,
        };
        let mut session = match started {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                tracing::debug!(originator, %error, "no ssh");
                return;
            }
            Err(_) => return,
        };
        let admitted = admission(&mut session, admitted, &stranger, deadline).await;
        // Whoever is not let in is a stranger until he has gone.
        let (end, _places) = match admitted {
            Ok(Admitted { who, key, place }) => {
                drop(stranger);
                tracing::info!(
                    originator,
                    controller = who,
                    user = self.house.user.name,
                    "logged in to the built-in ssh"
                );
                let end = tokio::select! {
                    _ = &mut session => End::Closed,
                    () = self.withdrawn(&key) => End::Withdrawn,
                };
                (end, (Some(place), None))
            }
            Err(end) => (end, (None, Some(stranger))),
        };
        tracing::info!(originator, reason = %end, "a connection of the built-in ssh has ended");
        dismiss(session, &flow, &end).await;
        stop.cancel();
        tasks.close();
        // They were told; those that write to a client that is gone end by the death of their connection.
        let _ = timeout(GOODBYE, tasks.wait()).await;
    }

    /// Completes when the key does not stand in the file any more. What cannot be read permits nobody.
    async fn withdrawn(&self, key: &PublicKey) {
        let mut looks = interval(KEY_LOOK);
        loop {
            looks.tick().await;
            match self.house.controllers.owner(key) {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "nobody may use the built-in ssh");
                    return;
                }
            }
        }
    }
}

/// Waits for the login, which ends the connection's time as a stranger.
async fn admission(
    session: &mut RunningSession<Visitor>,
    admitted: oneshot::Receiver<Result<Admitted, TurnedDown>>,
    stranger: &Stranger,
    deadline: Instant,
) -> Result<Admitted, End> {
    tokio::select! {
        biased;
        Ok(admitted) = admitted => admitted.map_err(End::Refused),
        _ = session => Err(End::Closed),
        () = sleep_until(deadline) => Err(End::TooSlow),
        () = stranger.displaced() => Err(End::Displaced),
    }
}

/// Ends a connection, with a word for whoever listens.
async fn dismiss(mut session: RunningSession<Visitor>, flow: &Flow, end: &End) {
    match end {
        End::Closed => return,
        End::TooSlow | End::Displaced | End::Refused(_) | End::Withdrawn => {}
    }
    let handle = session.handle();
    let goodbye = handle.disconnect(Disconnect::ByApplication, end.to_string(), "en".to_owned());
    let parting = async {
        let _ = goodbye.await;
        (&mut session).await
    };
    if timeout(GOODBYE, parting).await.is_err() {
        flow.cut("cut off");
        let _ = timeout(GOODBYE, session).await;
    }
}

#[cfg(test)]
mod tests;
