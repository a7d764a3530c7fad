//! Who a connection is: a key of the file, and the one user that there is.

use std::sync::Arc;

use daemon::ssh::known_peer;
use russh::keys::{HashAlg, PublicKey};
use russh::server::Auth;
use tokio::sync::OwnedSemaphorePermit;

use super::Visitor;
use crate::limits::KEY_OFFERS;

/// What the connection's task is told when its client has logged in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) who: String,
    pub(crate) key: PublicKey,
    /// Its place among those who have logged in.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Why a client that has proved a key is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedDown {
    #[error("this computer's built-in ssh is for user `{ours}` alone, not for `{asked}`")]
    OtherUser { ours: String, asked: String },
    #[error("too many keys were offered")]
    TooManyKeys,
    #[error("this computer's built-in ssh has too many connections")]
    TooManyConnections,
}

/// How far a connection has come.
pub(super) enum Standing {
    Stranger,
    /// The key is proved; the client is about to hear of it.
    Proved(Result<Admitted, TurnedDown>),
    /// Whose key it is.
    Member(String),
}

impl Visitor {
    pub(super) fn offered(&mut self, key: &PublicKey) -> Auth {
        // russh counts refusals only, and an answer to a question is none.
        self.offers += 1;
        if self.offers > KEY_OFFERS {
            self.tell(Err(TurnedDown::TooManyKeys));
            return Auth::reject();
        }
        match self.owner(key) {
            Some(_) => Auth::Accept,
            None => Auth::reject(),
        }
    }

    pub(super) fn proved(&mut self, user: &str, key: &PublicKey) -> Auth {
        let Some(who) = self.owner(key) else {
            return Auth::reject();
        };
        let ours = &self.house.user.name;
        let outcome = if user == ours {
            let place = Arc::clone(&self.house.connections).try_acquire_owned();
            if place.is_err() {
                tracing::warn!(
                    controller = who,
                    "a login was refused: there are too many connections"
                );
            }
            let key = key.clone();
            place
                .map(|place| Admitted { who, key, place })
                .map_err(|_| TurnedDown::TooManyConnections)
        } else {
            // Who holds a permitted key may know what the right name is; but before the login has succeeded there is no
            // way to say so. It stays a stranger, and is told and cut off.
            let asked = user.escape_default().take(MAX_SHOWN).collect();
            tracing::info!(
                controller = who,
                user,
                "a login as another user was refused"
            );
            Err(TurnedDown::OtherUser {
                ours: ours.clone(),
                asked,
            })
        };
        self.standing = Standing::Proved(outcome);
        Auth::Accept
    }

    pub(super) fn succeeded(&mut self, sshid: &[u8]) {
        let standing = std::mem::replace(&mut self.standing, Standing::Stranger);
        let Standing::Proved(outcome) = standing else {
            return;
        };
        self.flow.set_kind(known_peer(sshid));
        if let Ok(admitted) = &outcome {
            self.standing = Standing::Member(admitted.who.clone());
        }
        self.tell(outcome);
    }

    fn owner(&self, key: &PublicKey) -> Option<String> {
        let found = self.house.controllers.owner(key);
        if let Err(error) = &found {
            tracing::error!(%error, "nobody may use the built-in ssh");
        }
        let owner = found.ok().flatten();
        if owner.is_none() {
            let key = key.fingerprint(HashAlg::Sha256);
            tracing::info!(%key, "a key that is not permitted was refused");
        }
        owner
    }

    fn tell(&mut self, outcome: Result<Admitted, TurnedDown>) {
        // If nobody listens, the connection is being ended.
        if let Some(admitted) = self.admitted.take() {
            let _ = admitted.send(outcome);
        }
    }
}

/// How much of a name that somebody else chose is shown, in characters.
const MAX_SHOWN: usize = 64;
