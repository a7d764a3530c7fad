//! Who a connection is: from the first key that it offers to its place inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::doorway::Pass;
use daemon::ssh::{PeerKind, known_peer};
use daemon::ssh_client::SILENCE_LIMIT;
use russh::Error;
use russh::keys::{HashAlg, PublicKey};
use russh::server::{Auth, Session};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Visitor;
use crate::admission::Peer;
use crate::complaints::excerpt;
use crate::crowd::{Crowded, Place};

/// What the connection's task is told when its peer has logged in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) peer: Peer,
    /// As it stands on the wire: a third of a parsed one.
    pub(crate) key: Box<[u8]>,
    pub(crate) _place: Place,
}

/// Why a connection is not let in, although it proved a key or might have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedDown {
    #[error(transparent)]
    Crowded(Crowded),
    #[error("too many keys were offered")]
    TooManyKeys,
}

/// Whether a connection has offered a key that is not admitted. Clones are about the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried(Arc<AtomicBool>);

impl Tried {
    pub(crate) fn in_vain(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a connection has come.
pub(super) enum Standing {
    Stranger(Box<Stranger>),
    Member(Peer),
}

/// What is needed until a connection's peer has logged in, and then gone.
pub(super) struct Stranger {
    _pass: Pass,
    tried: Tried,
    offers: usize,
    /// The key is proved; the client is about to hear of it.
    proved: Option<(Peer, Box<[u8]>)>,
    admitted: Option<oneshot::Sender<Result<Admitted, TurnedDown>>>,
}

impl Stranger {
    pub(super) fn new(
        pass: Pass,
        tried: Tried,
        admitted: oneshot::Sender<Result<Admitted, TurnedDown>>,
    ) -> Self {
        Self {
            _pass: pass,
            tried,
            offers: 0,
            proved: None,
            admitted: Some(admitted),
        }
    }
}

impl Visitor {
    pub(super) async fn offered(&mut self, user: &str, key: &PublicKey) -> Result<Auth, Error> {
        // russh counts refusals only, and an answer to a question is none.
        let most = self.hub.limits.key_offers;
        let Standing::Stranger(stranger) = &mut self.standing else {
            return Ok(Auth::reject());
        };
        stranger.offers += 1;
        if stranger.offers > most {
            self.turn_down(TurnedDown::TooManyKeys);
            return Ok(Auth::reject());
        }
        if self.admit(user, key).await.is_none() {
            self.hold_back(user, key).await;
            return Ok(Auth::reject());
        }
        Ok(Auth::Accept)
    }

    pub(super) async fn proved(&mut self, user: &str, key: &PublicKey) -> Result<Auth, Error> {
        let Some(peer) = self.admit(user, key).await else {
            self.hold_back(user, key).await;
            return Ok(Auth::reject());
        };
        let (Standing::Stranger(stranger), Ok(key)) = (&mut self.standing, key.to_bytes()) else {
            return Ok(Auth::reject());
        };
        stranger.proved = Some((peer, key.into()));
        Ok(Auth::Accept)
    }

    /// The device of a key, after a second look if the key is not known.
    async fn admit(&self, user: &str, key: &PublicKey) -> Option<Peer> {
        let keys = self.hub.keys.current();
        if let Some(peer) = Peer::admit(user, key, &keys) {
            return Some(peer);
        }
        self.hub.keys.refresh().await;
        Peer::admit(user, key, &self.hub.keys.current())
    }

    /// Notes that a key is not admitted. The answer comes later for an address from which many failed.
    async fn hold_back(&self, user: &str, key: &PublicKey) {
        let address = self.address.ip();
        let delay = self.hub.penalties.delay(address, Instant::now());
        let key = key.fingerprint(HashAlg::Sha256);
        let user = excerpt(user);
        tracing::info!(?user, %key, address = %self.address, ?delay, "key not admitted");
        if let Standing::Stranger(stranger) = &self.standing {
            stranger.tried.0.store(true, Ordering::Relaxed);
        }
        sleep(delay).await;
    }

    fn turn_down(&mut self, why: TurnedDown) {
        // It stays a stranger until it is told so and cut off. If nobody listens, it is being ended.
        if let Standing::Stranger(stranger) = &mut self.standing
            && let Some(admitted) = stranger.admitted.take()
        {
            let _ = admitted.send(Err(why));
        }
    }

    pub(super) fn succeeded(&mut self, session: &Session) {
        let proved = match &mut self.standing {
            Standing::Stranger(stranger) => stranger.proved.take(),
            Standing::Member(_) => None,
        };
        let Some((peer, key)) = proved else {
            return;
        };
        let place = match self.hub.crowd.enter(peer.id()) {
            Ok(place) => place,
            Err(crowded) => {
                tracing::warn!(device = %peer.id(), address = %self.address, connection = self.connection.0, reason = %crowded, "login refused");
                self.turn_down(TurnedDown::Crowded(crowded));
                return;
            }
        };
        let member = Standing::Member(peer.clone());
        // Its pass goes before the client hears that it is in, and others of its address come.
        let before = std::mem::replace(&mut self.standing, member);
        let kind = known_peer(session.remote_sshid());
        self.flow.set_kind(kind);
        self.hub.lookout.watch(&self.flow);
        self.flow.limit_silence(match kind {
            PeerKind::Own => SILENCE_LIMIT,
            PeerKind::Foreign => self.hub.limits.idle_silence,
        });
        self.hub.counts.logins.increment();
        tracing::info!(device = %peer.id(), address = %self.address, connection = self.connection.0, ?kind, "logged in");
        self.expect(&peer, session);
        // If nobody listens, the connection is being ended.
        if let Standing::Stranger(stranger) = before
            && let Some(admitted) = stranger.admitted
        {
            let _ = admitted.send(Ok(Admitted {
                peer,
                key,
                _place: place,
            }));
        }
    }

    /// Lets who waits for the device know that its forward is on the way.
    fn expect(&self, peer: &Peer, session: &Session) {
        if self.hub.stopping.is_cancelled() {
            return;
        }
        // A controller may not.
        if let Ok(permit) = peer.forward("localhost", 0) {
            self.hub.table().expect(&permit, self.member(session));
        }
    }
}
