//! The registry that a realm's file names.

use std::path::Path;
use std::time::Duration;

use daemon::registry_place::RegistryPlace;

#[cfg(feature = "github")]
use crate::GitHub;
use crate::{
    Directory, Entry, Kind, Misnamed, Refusal, Registry, RegistryError, Revision, Title,
    UploadPermission,
};

/// One of the two registries there are.
#[derive(Clone, Debug)]
pub enum AnyRegistry {
    /// A directory.
    Directory(Directory),
    /// A repository's issues.
    #[cfg(feature = "github")]
    GitHub(GitHub),
}

impl AnyRegistry {
    /// Opens the registry at this place. `home` is the directory of the device or the realm: the token for GitHub may lie
    /// there. A repository is not asked before the first call.
    #[cfg_attr(
        not(feature = "github"),
        expect(unused_variables, reason = "only a repository asks for it")
    )]
    pub fn open(place: &RegistryPlace, home: &Path) -> Result<Self, RegistryError> {
        match place {
            RegistryPlace::Directory(path) => Ok(Self::Directory(Directory::open(path)?)),
            #[cfg(feature = "github")]
            RegistryPlace::GitHub(place) => Ok(Self::GitHub(GitHub::new(place.clone(), home))),
            #[cfg(not(feature = "github"))]
            RegistryPlace::GitHub(_) => Err(RegistryError::GitHubLeftOut {
                place: place.to_string(),
            }),
        }
    }

    /// Looks on while the one that it was cloned from looks, and does not ask GitHub beside it.
    #[must_use]
    pub fn looking_on(self) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory),
            #[cfg(feature = "github")]
            Self::GitHub(github) => Self::GitHub(github.looking_on()),
        }
    }

    /// Whether people can put something there whom nobody has let in: then only those count of whom a rule speaks.
    pub fn is_open_to_all(&self) -> bool {
        match self {
            // Who may write there is a matter of its mode.
            Self::Directory(_) => false,
            #[cfg(feature = "github")]
            Self::GitHub(_) => true,
        }
    }

    /// Whether certificates that are handed out there under our name are taken by anybody.
    #[cfg(feature = "github")]
    pub async fn check_signer(&self) -> Result<(), RegistryError> {
        match self {
            // They are known by the authority's signature alone.
            Self::Directory(_) => Ok(()),
            Self::GitHub(github) => github.check_signer().await,
        }
    }

    /// Sees it as the realm's services do: where several entries may lie under one title, the newest counts whose author
    /// this rule permits. A device goes without: for it, its own user's entries count.
    #[must_use]
    #[cfg_attr(
        not(feature = "github"),
        expect(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "only a repository asks for it"
        )
    )]
    pub fn permitting(self, permission: UploadPermission) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory),
            #[cfg(feature = "github")]
            Self::GitHub(github) => Self::GitHub(github.permitting(permission)),
        }
    }
}

/// The same call to whichever it is.
macro_rules! whichever {
    ($any:expr, $registry:ident => $call:expr) => {
        match $any {
            Self::Directory($registry) => $call,
            #[cfg(feature = "github")]
            Self::GitHub($registry) => $call,
        }
    };
}

impl Registry for AnyRegistry {
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        whichever!(self, registry => registry.list(kind).await)
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        whichever!(self, registry => registry.get(title).await)
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        whichever!(self, registry => registry.put(title, body).await)
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        whichever!(self, registry => registry.close(title, revision).await)
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        whichever!(self, registry => registry.refuse(title, revision, refusal).await)
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        whichever!(self, registry => registry.refusal(title, revision).await)
    }

    async fn mark_seen(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        whichever!(self, registry => registry.mark_seen(title, revision).await)
    }

    async fn is_seen(&self, title: &Title, revision: &Revision) -> Result<bool, RegistryError> {
        whichever!(self, registry => registry.is_seen(title, revision).await)
    }

    async fn misnamed(&self) -> Result<Vec<Misnamed>, RegistryError> {
        whichever!(self, registry => registry.misnamed().await)
    }

    async fn refuse_misnamed(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        whichever!(self, registry => registry.refuse_misnamed(misnamed).await)
    }

    async fn replaces(&self, entry: &Entry) -> Result<bool, RegistryError> {
        whichever!(self, registry => registry.replaces(entry).await)
    }

    fn poll_interval(&self) -> Duration {
        whichever!(self, registry => registry.poll_interval())
    }
}
