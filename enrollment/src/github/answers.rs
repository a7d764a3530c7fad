//! What the realm says under an issue: a refusal as a comment, and eyes for what is still waiting.

use super::access::{FRESH, GitHub};
use super::issue::number;
use super::mirror::{Known, Told};
use super::refusal_comment;
use super::session::{RECENT, Session};
use crate::{Misnamed, Refusal, RegistryError, Revision, Title};

impl GitHub {
    /// Writes a refusal under the issue that this revision is of, unless it stands there.
    pub(super) async fn tell(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        let Some(number) = number(revision) else {
            return Ok(());
        };
        // Looked up first: a comment whose call seemed to fail is not written again.
        if self.told(title, revision).await?.is_some() {
            return Ok(());
        }
        let text = refusal_comment::write(revision, refusal);
        let session = self.session().await?;
        let written = session.comment(number, &text).await;
        written.map_err(self.failed("comment on"))
    }

    /// The refusal of this revision, if there is one.
    pub(super) async fn told(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        let Some((number, known)) = self.known(title, revision).await? else {
            return Ok(None);
        };
        if known.issue.comments == 0 {
            return Ok(None);
        }
        if let Told::Read(refusal) = known.told {
            return Ok(refusal);
        }
        let refusal = self.read_refusal(number, revision).await?;
        let noted = refusal.clone();
        self.note(number, |now| {
            // Not if it has changed since it was asked.
            if now.issue == known.issue {
                now.told = Told::Read(noted);
            }
        })
        .await?;
        Ok(refusal)
    }

    /// Reacts to the issue that this revision is of: once in the life of this process, and GitHub counts it once in all.
    pub(super) async fn show_eyes(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<(), RegistryError> {
        let Some((number, known)) = self.known(title, revision).await? else {
            return Ok(());
        };
        if known.seen == Some(true) {
            return Ok(());
        }
        let session = self.session().await?;
        let marked = session.mark(number).await;
        marked.map_err(self.failed("react to"))?;
        self.note(number, |now| {
            now.seen = Some(true);
            // As the next list will have it: ours is one of them.
            now.eyes = now.eyes.max(known.eyes + 1);
        })
        .await
    }

    /// Whether somebody who speaks for the realm has reacted. Who it was is asked when their number has changed.
    pub(super) async fn has_eyes(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<bool, RegistryError> {
        let Some((number, known)) = self.known(title, revision).await? else {
            return Ok(false);
        };
        if known.eyes == 0 {
            return Ok(false);
        }
        if let Some(seen) = known.seen {
            return Ok(seen);
        }
        let session = self.session().await?;
        let markers = session.markers(number).await;
        let seen = markers
            .map_err(self.failed("read the reactions to"))?
            .iter()
            .any(|user| self.speaks_for_the_realm(session, &user.login));
        self.note(number, |now| {
            if now.eyes == known.eyes {
                now.seen = Some(seen);
            }
        })
        .await?;
        Ok(seen)
    }

    /// The issues that were meant as entries, and whose authors have not been told in the life of this process.
    pub(super) async fn strays(&self) -> Result<Vec<Misnamed>, RegistryError> {
        let session = self.session().await?;
        let strays = session.look(FRESH, |mirror| {
            let strays = mirror.strays().filter(|(_, stray)| !stray.told);
            strays.map(|(_, stray)| stray.misnamed.clone()).collect()
        });
        strays.await.map_err(self.failed("list"))
    }

    /// Writes under such an issue why it is none, unless it stands there.
    pub(super) async fn tell_stray(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        let revision = misnamed.revision();
        let Some(number) = number(revision) else {
            return Ok(false);
        };
        let session = self.session().await?;
        let comments = session.look(RECENT, |mirror| {
            let mut strays = mirror.strays();
            let stray = strays.find(|(other, _)| *other == number);
            stray.map_or(0, |(_, stray)| stray.comments)
        });
        let comments = comments.await.map_err(self.failed("list"))?;
        let told = comments > 0 && self.read_refusal(number, revision).await?.is_some();
        if !told {
            let text = refusal_comment::write(revision, &misnamed.refusal());
            let written = session.comment(number, &text).await;
            written.map_err(self.failed("comment on"))?;
        }
        let noted = session.look(RECENT, |mirror| mirror.note_told(number));
        noted.await.map_err(self.failed("list"))?;
        Ok(!told)
    }

    /// The open issue that this revision is of.
    async fn known(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<(u64, Known)>, RegistryError> {
        let Some(number) = number(revision) else {
            return Ok(None);
        };
        let session = self.session().await?;
        let known = session
            .look(RECENT, |mirror| mirror.known(number).cloned())
            .await
            .map_err(self.failed("list"))?;
        let known = known.filter(|known| known.issue.title == *title);
        Ok(known.map(|known| (number, known)))
    }

    /// Notes something about an issue, if it is still open.
    async fn note(
        &self,
        number: u64,
        note: impl FnOnce(&mut Known) + Send,
    ) -> Result<(), RegistryError> {
        let session = self.session().await?;
        let noted = session.look(RECENT, |mirror| mirror.known_mut(number).map(note));
        noted.await.map_err(self.failed("list"))?;
        Ok(())
    }

    /// The realm's last word on this revision.
    async fn read_refusal(
        &self,
        number: u64,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        let session = self.session().await?;
        let comments = session.comments(number).await;
        let comments = comments.map_err(self.failed("read the comments on"))?;
        Ok(comments.iter().rev().find_map(|comment| {
            let author = comment.user.as_ref()?;
            let body = comment.body.as_deref()?;
            self.speaks_for_the_realm(session, &author.login)
                .then(|| refusal_comment::read(revision, body))?
        }))
    }

    /// Whose word on a request is the realm's.
    fn speaks_for_the_realm(&self, session: &Session, login: &str) -> bool {
        let login = login.to_ascii_lowercase();
        self.place.signers.contains(&login)
            || (self.permission.is_some() && login == session.login())
    }
}
