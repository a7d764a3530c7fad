//! The registry that is a directory: one file a title.

mod answers;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::folder::{Folder, Found};
use crate::{Author, Entry, Kind, Misnamed, Refusal, Registry, RegistryError, Revision, Title};

/// A directory as a registry. An entry's author is the file's owner, its revision the digest of its text; the answer
/// to a refused request lies beside it in `TITLE.refused`, and `TITLE.seen` says that one waits for its answer. Everything
/// that is not named like a title is ignored.
#[derive(Clone, Debug)]
pub struct Directory {
    path: Arc<Path>,
    // Held open, so that whoever replaces the directory cannot lead us elsewhere.
    folder: Arc<Folder>,
}

impl Directory {
    /// Opens a registry that exists.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let path = path.into();
        let folder = Folder::open(&path).map_err(|source| RegistryError::Io {
            action: "open",
            place: path.display().to_string(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            folder: Arc::new(folder),
        })
    }

    /// Opens a registry; makes its directory if there is none, with mode 0700: to let others in is a decision of the
    /// realm's administrator.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| RegistryError::Io {
                action: "make",
                place: path.display().to_string(),
                source,
            })?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs file operations where they may block.
    async fn call<T: Send + 'static>(
        &self,
        action: &'static str,
        name: String,
        work: impl FnOnce(&Folder, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let folder = Arc::clone(&self.folder);
        let place = self.path.join(&name).display().to_string();
        spawn_blocking(move || work(&folder, &name))
            .await
            .map_err(|_| RegistryError::Cut)?
            .map_err(|source| RegistryError::Io {
                action,
                place,
                source,
            })
    }
}

impl Registry for Directory {
    async fn list(&self, kind: Kind) -> Result<Vec<Entry>, RegistryError> {
        let entries = self
            .call("list", String::new(), move |folder, _| {
                let Some(names) = folder.names(MAX_NAMES)? else {
                    return Ok(None);
                };
                let mut entries = Vec::new();
                for name in names {
                    let Ok(title) = name.parse::<Title>() else {
                        continue;
                    };
                    if title.kind() != kind {
                        continue;
                    }
                    if let Some(found) = folder.read(&name, kind.max_body())? {
                        entries.push(entry(title, found));
                    }
                }
                Ok(Some(entries))
            })
            .await?;
        entries.ok_or_else(|| RegistryError::TooMany {
            place: self.path.display().to_string(),
            limit: MAX_NAMES,
        })
    }

    async fn get(&self, title: &Title) -> Result<Option<Entry>, RegistryError> {
        let limit = title.kind().max_body();
        let found = self.call("read", title.to_string(), move |folder, name| {
            folder.read(name, limit)
        });
        Ok(found.await?.map(|found| entry(title.clone(), found)))
    }

    async fn put(&self, title: &Title, body: &str) -> Result<Revision, RegistryError> {
        let limit = title.kind().max_body();
        if body.len() > limit {
            return Err(RegistryError::BodyTooLarge {
                title: title.clone(),
                limit,
            });
        }
        let body = body.to_owned();
        self.call("write", title.to_string(), move |folder, name| {
            // First, so that no answer to what was there can be taken for one to this.
            answers::take_back(folder, name)?;
            folder.write(name, body.as_bytes())?;
            Ok(Revision::of_body(&body))
        })
        .await
    }

    async fn close(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        let (limit, revision) = (title.kind().max_body(), revision.clone());
        self.call("remove", title.to_string(), move |folder, name| {
            folder.remove_revision(name, &revision, limit)?;
            answers::take_back_of(folder, name, &revision)
        })
        .await
    }

    async fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> Result<(), RegistryError> {
        let (revision, refusal) = (revision.clone(), refusal.clone());
        self.call("write", title.to_string(), move |folder, name| {
            answers::refuse(folder, name, &revision, &refusal)
        })
        .await
    }

    async fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> Result<Option<Refusal>, RegistryError> {
        let revision = revision.clone();
        self.call("read", title.to_string(), move |folder, name| {
            answers::refusal(folder, name, &revision)
        })
        .await
    }

    async fn mark_seen(&self, title: &Title, revision: &Revision) -> Result<(), RegistryError> {
        let (limit, revision) = (title.kind().max_body(), revision.clone());
        self.call("write", title.to_string(), move |folder, name| {
            // What has been answered meanwhile, or replaced, waits no more.
            let waits = folder.read(name, limit)?;
            let waits = waits.is_some_and(|found| found.revision == revision);
            if !waits || answers::is_seen(folder, name, &revision)? {
                return Ok(());
            }
            answers::mark_seen(folder, name, &revision)
        })
        .await
    }

    async fn is_seen(&self, title: &Title, revision: &Revision) -> Result<bool, RegistryError> {
        let revision = revision.clone();
        self.call("read", title.to_string(), move |folder, name| {
            answers::is_seen(folder, name, &revision)
        })
        .await
    }

    async fn misnamed(&self) -> Result<Vec<Misnamed>, RegistryError> {
        self.call("list", String::new(), move |folder, _| {
            let mut misnamed = Vec::new();
            // Of more names than there can be nothing is served, so nobody is told of a name either.
            for name in folder.names(MAX_NAMES)?.unwrap_or_default() {
                let may_be = Misnamed::of(&name, NOBODY, Revision::of_body(&name)).is_some();
                if may_be && let Some(found) = folder.read(&name, MAX_MISNAMED)? {
                    let author = Author::LocalUser { uid: found.owner };
                    misnamed.extend(Misnamed::of(&name, author, found.revision));
                }
            }
            Ok(misnamed)
        })
        .await
    }

    async fn refuse_misnamed(&self, misnamed: &Misnamed) -> Result<bool, RegistryError> {
        let (name, revision) = (misnamed.name().to_owned(), misnamed.revision().clone());
        let why = misnamed.refusal();
        self.call("write", name, move |folder, name| {
            if answers::refusal(folder, name, &revision)?.is_some() {
                return Ok(false);
            }
            answers::refuse(folder, name, &revision, &why)?;
            Ok(true)
        })
        .await
    }

    /// There is one file of a name.
    async fn replaces(&self, _entry: &Entry) -> Result<bool, RegistryError> {
        Ok(true)
    }

    fn poll_interval(&self) -> Duration {
        POLL_INTERVAL
    }
}

fn entry(title: Title, found: Found) -> Entry {
    Entry {
        title,
        author: Author::LocalUser { uid: found.owner },
        revision: found.revision,
        body: found.body,
        arrived: found.changed,
    }
}

/// How often to look: to read the names of a small directory costs microseconds, and a person is waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The most names in the directory: a realm of 4,000 devices has three entries and an answer each.
const MAX_NAMES: usize = 16_384;

/// How much is read of what nobody serves: enough to see when it changes.
const MAX_MISNAMED: usize = 16 * 1024;

/// Stands for an author who has not been looked for.
const NOBODY: Author = Author::LocalUser { uid: u32::MAX };

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::BodyFault;

    fn title(text: &str) -> Title {
        text.parse().unwrap()
    }

    fn registry() -> (tempfile::TempDir, Directory) {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::create(home.path().join("registry")).unwrap();
        (home, directory)
    }

    #[tokio::test]
    async fn an_entry_is_put_found_listed_and_closed() {
        let (_home, registry) = registry();
        let (key, request) = (
            title("333.hula.atlas.sshkey.pub"),
            title("333.hula.atlas.x509.csr"),
        );
        registry.put(&key, "key").await.unwrap();
        let revision = registry.put(&request, "request").await.unwrap();
        let listed = registry.list(Kind::CertificateRequest).await.unwrap();
        assert_eq!(listed, [registry.get(&request).await.unwrap().unwrap()]);
        assert_eq!(
            (listed[0].body.as_deref(), &listed[0].revision),
            (Ok("request"), &revision)
        );
        registry.close(&request, &revision).await.unwrap();
        assert_eq!(registry.get(&request).await.unwrap(), None);
        assert_eq!(registry.list(Kind::SshPublicKey).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_refusal_belongs_to_one_revision() {
        let (_home, registry) = registry();
        let request = title("333.hula.atlas.x509.csr");
        let first = registry.put(&request, "first").await.unwrap();
        let refusal = Refusal::new("it is \"bad\"", "make it good");
        registry.refuse(&request, &first, &refusal).await.unwrap();
        assert_eq!(
            registry.refusal(&request, &first).await.unwrap(),
            Some(refusal.clone())
        );
        // The same text put again asks anew.
        assert_eq!(registry.put(&request, "first").await.unwrap(), first);
        assert_eq!(registry.refusal(&request, &first).await.unwrap(), None);
        registry.refuse(&request, &first, &refusal).await.unwrap();
        let second = registry.put(&request, "second").await.unwrap();
        assert_eq!(registry.refusal(&request, &second).await.unwrap(), None);
        registry.refuse(&request, &second, &refusal).await.unwrap();
        registry.close(&request, &second).await.unwrap();
        assert_eq!(fs::read_dir(registry.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_mark_belongs_to_one_revision_and_goes_with_it() {
        let (_home, registry) = registry();
        let request = title("333.hula.atlas.x509.csr");
        let first = registry.put(&request, "first").await.unwrap();
        assert!(!registry.is_seen(&request, &first).await.unwrap());
        for _ in 0..2 {
            registry.mark_seen(&request, &first).await.unwrap();
            assert!(registry.is_seen(&request, &first).await.unwrap());
        }
        let second = registry.put(&request, "second").await.unwrap();
        assert!(!registry.is_seen(&request, &second).await.unwrap());
        registry.mark_seen(&request, &second).await.unwrap();
        assert_eq!(
            registry.list(Kind::CertificateRequest).await.unwrap().len(),
            1
        );
        registry.close(&request, &second).await.unwrap();
        assert_eq!(fs::read_dir(registry.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn who_has_misnamed_something_is_told_once() {
        let (_home, registry) = registry();
        let long = format!("{}.x509.csr", "a".repeat(246));
        for name in ["x.evil.hula.atlas.x509.csr", &long, "README"] {
            fs::write(registry.path().join(name), "text").unwrap();
        }
        let misnamed = registry.misnamed().await.unwrap();
        assert_eq!(misnamed.len(), 2, "{misnamed:?}");
        for one in &misnamed {
            assert!(registry.refuse_misnamed(one).await.unwrap());
            assert!(!registry.refuse_misnamed(one).await.unwrap());
        }
        assert_eq!(registry.misnamed().await.unwrap(), misnamed);
        fs::write(registry.path().join("x.evil.hula.atlas.x509.csr"), "other").unwrap();
        let again = registry.misnamed().await.unwrap();
        assert!(registry.refuse_misnamed(&again[1]).await.unwrap());
    }

    #[tokio::test]
    async fn strangers_files_do_not_hide_the_others() {
        let (home, registry) = registry();
        let at = |name: &str| registry.path().join(name);
        fs::write(at("good.hula.atlas.x509.csr"), "text").unwrap();
        fs::write(at("large.hula.atlas.x509.csr"), vec![b'x'; 1 << 20]).unwrap();
        fs::write(home.path().join("secret"), "secret").unwrap();
        symlink(home.path().join("secret"), at("link.hula.atlas.x509.csr")).unwrap();
        fs::create_dir(at("folder.hula.atlas.x509.csr")).unwrap();
        fs::write(at("x.evil.hula.atlas.x509.csr"), "text").unwrap();
        fs::write(at(".0123.tmp"), "half").unwrap();
        fs::write(at("README"), "hello").unwrap();
        let listed = registry.list(Kind::CertificateRequest).await.unwrap();
        let seen: Vec<_> = listed
            .iter()
            .map(|entry| (entry.title.id().device().as_str(), entry.body.as_deref()))
            .collect();
        let large = BodyFault::TooLarge {
            limit: Kind::CertificateRequest.max_body(),
        };
        assert_eq!(
            seen,
            [
                ("folder", Err(&BodyFault::NotAFile)),
                ("good", Ok("text")),
                ("large", Err(&large)),
                ("link", Err(&BodyFault::NotAFile)),
            ]
        );
    }

    #[tokio::test]
    async fn what_nobody_would_read_is_not_written() {
        let (_home, registry) = registry();
        let request = title("333.hula.atlas.x509.csr");
        let error = registry.put(&request, &"x".repeat(8193)).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::BodyTooLarge { limit: 8192, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_missing_registry_is_named() {
        let error = Directory::open("/nonexistent/registry").unwrap_err();
        assert_eq!(error.to_string(), "cannot open `/nonexistent/registry`");
    }
}
