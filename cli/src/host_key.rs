//! `tunnel proxy host-key`: how a proxy changes its host key while everybody goes on connecting.
//!
//! Agents and controllers accept whatever host keys their realm.toml names, so the next key is named there before it is used,
//! and the last one until nobody has an old file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daemon::identity::{self, IdentityError};
use daemon::lock::FileLock;
use daemon::realm_dir::RealmDir;
use daemon::realm_file::{RealmFile, SaveError};
use enrollment::ssh_key::{self, KeyKind};
use russh::keys::{HashAlg, PrivateKey, PublicKey};

use crate::arguments::{HostKey, HostKeyCommand, OldKey};
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::cannot;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &HostKey) -> Result<u8, Failure> {
    let dir = RealmDir::new(dir.unwrap_or_else(|| PathBuf::from(".")));
    let lock = dir.path().join("proxy").join("hostkey.lock");
    let busy = "another `tunnel proxy host-key` is running here";
    let _lock = FileLock::try_take(&lock)
        .map_err(|error| Failure::new(error, None, exit::CONFIG))?
        .ok_or_else(|| Failure::text(busy, Some("try again when it has ended"), exit::FAILURE))?;
    let mut realm = Realm::load(dir)?;
    match &arguments.command {
        None => realm.show(),
        Some(HostKeyCommand::Next) => realm.announce_next()?,
        Some(HostKeyCommand::Switch) => realm.switch()?,
        Some(HostKeyCommand::Retire) => realm.retire()?,
        Some(HostKeyCommand::Add { kind }) => realm.add(*kind)?,
    }
    Ok(exit::OK)
}

/// The host keys that a proxy presents: the usual one, and those for old clients.
pub(crate) fn load(dir: &RealmDir) -> Result<Vec<PrivateKey>, Failure> {
    let mut keys = vec![read(&dir.proxy_host_key())?];
    for kind in [OldKey::Ecdsa, OldKey::Rsa] {
        let path = dir.proxy_extra_host_key(kind.name());
        if path.exists() {
            keys.push(read(&path)?);
        }
    }
    Ok(keys)
}

/// A host key of the proxy's, which nobody can make again.
fn read(path: &Path) -> Result<PrivateKey, Failure> {
    identity::ssh_key(path).map_err(|error| {
        let mended = match &error {
            IdentityError::File(file) if !file.is_not_found() => file.hint(),
            IdentityError::File(_)
            | IdentityError::Pem { .. }
            | IdentityError::SshKey { .. }
            | _ => None,
        };
        let copy =
            "put it back from a copy: with another one agents and controllers refuse the proxy";
        let hint = mended.unwrap_or_else(|| copy.to_owned());
        Failure::new(error, Some(hint), exit::CONFIG)
    })
}

/// A realm's directory, its file, and which proxy of the file this one is.
struct Realm {
    dir: RealmDir,
    file: RealmFile,
    present: Vec<PrivateKey>,
    next: Option<PrivateKey>,
    proxy: usize,
}

impl Realm {
    fn load(dir: RealmDir) -> Result<Self, Failure> {
        let file = RealmFile::load(&dir.realm_file())?;
        let present = load(&dir)?;
        let next = dir.proxy_next_host_key();
        let next = if next.exists() {
            Some(read(&next)?)
        } else {
            None
        };
        let ours = |keys: &[String]| present.iter().any(|key| names(keys, key));
        let proxy = file.proxies.iter().position(|proxy| ours(&proxy.host_keys));
        let proxy = proxy.ok_or_else(|| {
            Failure::text(
                "no proxy in `realm.toml` has this proxy's host key",
                Some("add the line of `proxy/hostkey.pub` to its `host_keys`"),
                exit::CONFIG,
            )
        })?;
        Ok(Self {
            dir,
            file,
            present,
            next,
            proxy,
        })
    }

    fn show(&self) {
        for key in &self.present {
            output::line(format_args!("{} in use", described(key.public_key())));
        }
        if let Some(next) = &self.next {
            output::line(format_args!("{} next", described(next.public_key())));
        }
        for line in self.named() {
            let Ok(key) = line.parse::<PublicKey>() else {
                continue;
            };
            if !self.holds(&key) {
                output::line(format_args!("{} only in realm.toml", described(&key)));
            }
        }
    }

    fn announce_next(&mut self) -> Result<(), Failure> {
        let next = match self.next.take() {
            Some(next) => next,
            None => self.make(KeyKind::Ed25519, &self.dir.proxy_next_host_key())?,
        };
        self.announce(&next)?;
        output::line(format_args!("{} next", described(next.public_key())));
        output::note("bring realm.toml to every computer; then: `tunnel proxy host-key switch`");
        Ok(())
    }

    fn switch(&mut self) -> Result<(), Failure> {
        let hint = Some("first: `tunnel proxy host-key next`");
        let Some(next) = &self.next else {
            return Err(Failure::text(
                "there is no next host key",
                hint,
                exit::CONFIG,
            ));
        };
        if !names(self.named(), next) {
            let text = "the next host key is not named in `realm.toml`";
            return Err(Failure::text(text, hint, exit::CONFIG));
        }
        let (from, to) = (self.dir.proxy_next_host_key(), self.dir.proxy_host_key());
        // The private half last: as long as it is there, this can be done again.
        for (from, to) in [
            (ssh_key::public_path(&from), ssh_key::public_path(&to)),
            (from, to),
        ] {
            if let Err(error) = fs::rename(&from, &to)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(cannot(&format!("rename `{}`", from.display()), error));
            }
        }
        output::line(format_args!("{} in use", described(next.public_key())));
        output::note(
            "reload the proxy (SIGHUP); when no computer has an old realm.toml any more: `tunnel proxy host-key retire`",
        );
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Failure> {
        let keep: Vec<String> = self
            .named()
            .iter()
            .filter(|line| line.parse::<PublicKey>().is_ok_and(|key| self.holds(&key)))
            .cloned()
            .collect();
        let struck = self.named().len() - keep.len();
        self.save(keep)?;
        output::line(format_args!("{struck} struck out of realm.toml"));
        Ok(())
    }

    fn add(&mut self, kind: OldKey) -> Result<(), Failure> {
        let path = self.dir.proxy_extra_host_key(kind.name());
        let key = if path.exists() {
            read(&path)?
        } else {
            self.make(kind.into(), &path)?
        };
        self.announce(&key)?;
        output::line(format_args!("{} in use", described(key.public_key())));
        output::note("reload the proxy (SIGHUP)");
        Ok(())
    }

    fn make(&self, kind: KeyKind, path: &Path) -> Result<PrivateKey, Failure> {
        let host = self.file.proxies.get(self.proxy);
        let comment = host.map_or_else(String::new, |proxy| proxy.address.host().to_owned());
        ssh_key::create_of(kind, path, &comment)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))
    }

    fn named(&self) -> &[String] {
        let proxy = self.file.proxies.get(self.proxy);
        proxy.map_or(&[], |proxy| proxy.host_keys.as_slice())
    }

    fn holds(&self, key: &PublicKey) -> bool {
        let mut held = self.present.iter().chain(&self.next);
        held.any(|ours| ours.public_key().key_data() == key.key_data())
    }

    fn announce(&mut self, key: &PrivateKey) -> Result<(), Failure> {
        let mut lines = self.named().to_vec();
        if !names(&lines, key) {
            let line = ssh_key::bare_line(key);
            lines.push(line.map_err(|error| Failure::new(error, None, exit::FAILURE))?);
        }
        self.save(lines)
    }

    fn save(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        if let Some(proxy) = self.file.proxies.get_mut(self.proxy) {
            proxy.host_keys = lines;
        }
        let failure = |error: SaveError| Failure::new(error, None, exit::FAILURE);
        self.file.save(&self.dir.realm_file()).map_err(failure)
    }
}

impl OldKey {
    fn name(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }
}

impl From<OldKey> for KeyKind {
    fn from(kind: OldKey) -> Self {
        match kind {
            OldKey::Ecdsa => Self::Ecdsa,
            OldKey::Rsa => Self::Rsa,
        }
    }
}

fn names(lines: &[String], key: &PrivateKey) -> bool {
    let data = key.public_key().key_data();
    let mut keys = lines
        .iter()
        .filter_map(|line| line.parse::<PublicKey>().ok());
    keys.any(|named| named.key_data() == data)
}

fn described(key: &PublicKey) -> String {
    format!("{} {}", key.fingerprint(HashAlg::Sha256), key.algorithm())
}
