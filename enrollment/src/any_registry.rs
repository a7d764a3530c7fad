//! The registry that a realm's file names.

use std::path::Path;
use std::time::Duration;

use daemon::registry_place::RegistryPlace;

use crate::{
    Directory, Entry, GitHub, Kind, Misnamed, Refusal, Registry, RegistryError, Revision, Title,
    UploadPermission,
};

/// One of the two registries there are.
#[derive(Clone, Debug)]
pub enum AnyRegistry {
    /// A directory.
    Directory(Directory),
    /// A repository's issues.
    GitHub(GitHub),
}

impl AnyRegistry {
    /// Opens the registry at this place. `home` is the directory of the device or the realm: the token for GitHub may lie
    /// there. A repository is not asked before the first call.
    pub fn open(place: &RegistryPlace, home: &Path) -> Result<Self, RegistryError> {
        match place {
            RegistryPlace::Directory(path) => Ok(Self::Directory(Directory::open(path)?)),
            RegistryPlace::GitHub(place) => Ok(Self::GitHub(GitHub::new(place.clone(), home))),
        }
    }

    /// Looks on while the one that it was cloned from looks, and does not ask GitHub beside it.
    #[must_use]
    pub fn looking_on(self) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory),
            Self::GitHub(github) => Self::GitHub(github.looking_on()),
        }
    }

    /// Whether certificates that are handed out there under our name are taken by anybody.
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
    pub fn permitting(self, permission: UploadPermission) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory),
            Self::GitHub(github) => Self::GitHub(github.permitting(permission)),
        }
    }
}

impl Registry for AnyRegistry {
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        match self {
            Self::Directory(registry) => registry.list(kind).await,
            Self::GitHub(registry) => registry.list(kind).await,
        }
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        match self {
            Self::Directory(registry) => registry.get(title).await,
            Self::GitHub(registry) => registry.get(title).await,
        }
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        match self {
            Self::Directory(registry) => registry.put(title, body).await,
            Self::GitHub(registry) => registry.put(title, body).await,
        }
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        match self {
            Self::Directory(registry) => registry.close(title, revision).await,
            Self::GitHub(registry) => registry.close(title, revision).await,
        }
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        match self {
            Self::Directory(registry) => registry.refuse(title, revision, refusal).await,
            Self::GitHub(registry) => registry.refuse(title, revision, refusal).await,
        }
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        match self {
            Self::Directory(registry) => registry.refusal(title, revision).await,
            Self::GitHub(registry) => registry.refusal(title, revision).await,
        }
    }

    async fn mark_seen(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        match self {
            Self::Directory(registry) => registry.mark_seen(title, revision).await,
            Self::GitHub(registry) => registry.mark_seen(title, revision).await,
        }
    }

    async fn is_seen(&self, title: &Title, revision: &Revision) -> Result<bool, RegistryError> {
        match self {
            Self::Directory(registry) => registry.is_seen(title, revision).await,
            Self::GitHub(registry) => registry.is_seen(title, revision).await,
        }
    }

    async fn misnamed(&self) -> Result<Vec<Misnamed>, RegistryError> {
        match self {
            Self::Directory(registry) => registry.misnamed().await,
            Self::GitHub(registry) => registry.misnamed().await,
        }
    }

    async fn refuse_misnamed(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        match self {
            Self::Directory(registry) => registry.refuse_misnamed(misnamed).await,
            Self::GitHub(registry) => registry.refuse_misnamed(misnamed).await,
        }
    }

    async fn replaces(&self, entry: &Entry) -> Result<bool, RegistryError> {
        match self {
            Self::Directory(registry) => registry.replaces(entry).await,
            Self::GitHub(registry) => registry.replaces(entry).await,
        }
    }

    fn poll_interval(&self) -> Duration {
        match self {
            Self::Directory(registry) => registry.poll_interval(),
            Self::GitHub(registry) => registry.poll_interval(),
        }
    }
}
