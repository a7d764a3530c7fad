//! A file's attributes, as they are sent and as they are set.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, futimens, utimensat};

use super::packet::{Input, Output};

/// What is told of a file, or is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    size: Option<u64>,
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
    times: Option<(u32, u32)>,
}

/// What attributes are set of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object<'a> {
    Open(&'a File),
    /// What the path leads to.
    Path(&'a Path),
    /// A link itself.
    Link(&'a Path),
}

impl Attributes {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let seconds = |time: i64| u32::try_from(time).unwrap_or(0);
        Self {
            size: Some(metadata.len()),
            owner: Some((metadata.uid(), metadata.gid())),
            mode: Some(metadata.mode()),
            times: Some((seconds(metadata.atime()), seconds(metadata.mtime()))),
        }
    }

    pub(super) fn read(input: &mut Input<'_>) -> Option<Self> {
        let flags = input.number()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(input.long()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((input.number()?, input.number()?));
        }
        if flags & MODE != 0 {
            attributes.mode = Some(input.number()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((input.number()?, input.number()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..input.number()? {
                // Names and values that nobody here knows.
                input.bytes()?;
                input.bytes()?;
            }
        }
        Some(attributes)
    }

    pub(super) fn write(&self, output: &mut Output) {
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        output.number(
            flag(self.size.is_some(), SIZE)
                | flag(self.owner.is_some(), OWNER)
                | flag(self.mode.is_some(), MODE)
                | flag(self.times.is_some(), TIMES),
        );
        if let Some(size) = self.size {
            output.long(size);
        }
        if let Some((user, group)) = self.owner {
            output.number(user);
            output.number(group);
        }
        if let Some(mode) = self.mode {
            output.number(mode);
        }
        if let Some((accessed, modified)) = self.times {
            output.number(accessed);
            output.number(modified);
        }
    }

    /// The permission bits of something new.
    pub(super) fn mode_or(&self, usual: u32) -> u32 {
        self.mode.map_or(usual, |mode| mode & PERMISSIONS)
    }

    /// Changes what is to be changed, as far as the user may.
    pub(super) fn set(&self, object: Object<'_>) -> io::Result<()> {
        if let Some(size) = self.size {
            match object {
                Object::Open(file) => file.set_len(size)?,
                Object::Path(path) => OpenOptions::new().write(true).open(path)?.set_len(size)?,
                Object::Link(_) => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
        if let Some(mode) = self.mode {
            let permissions = Permissions::from_mode(mode & PERMISSIONS);
            match object {
                Object::Open(file) => file.set_permissions(permissions)?,
                Object::Path(path) => std::fs::set_permissions(path, permissions)?,
                // Links have none.
                Object::Link(_) => {}
            }
        }
        if let Some((accessed, modified)) = self.times {
            let at = |seconds: u32| Timespec {
                tv_sec: seconds.into(),
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: at(accessed),
                last_modification: at(modified),
            };
            match object {
                Object::Open(file) => futimens(file, &times)?,
                Object::Path(path) => utimensat(CWD, path, &times, AtFlags::empty())?,
                Object::Link(path) => utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?,
            }
        }
        if let Some((user, group)) = self.owner {
            match object {
                Object::Open(file) => fchown(file, Some(user), Some(group))?,
                Object::Path(path) => chown(path, Some(user), Some(group))?,
                Object::Link(path) => lchown(path, Some(user), Some(group))?,
            }
        }
        Ok(())
    }
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What a client may set of a mode; the rest says what kind of file it is.
const PERMISSIONS: u32 = 0o7777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        std::fs::write(&path, "hello").unwrap();
        let change = Attributes {
            size: Some(3),
            owner: None,
            mode: Some(0o100_640),
            times: Some((1_000_000_000, 1_000_000_001)),
        };
        change.set(Object::Path(&path)).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode()), (3, 0o100_640));
        let attributes = Attributes::of(&metadata);
        assert_eq!(attributes.times, change.times);
        let mut output = Output::new(0);
        attributes.write(&mut output);
        let packet = output.finish();
        let mut input = Input::new(&packet[5..]);
        assert_eq!(Attributes::read(&mut input), Some(attributes));
        assert_eq!(input.byte(), None, "all of it");
    }

    #[test]
    fn extensions_are_skipped_and_must_be_there() {
        let mut output = Output::new(0);
        output.number(EXTENDED);
        output.number(1);
        output.text(b"name@example.org");
        output.text(b"value");
        output.number(7);
        let packet = output.finish();
        let mut input = Input::new(&packet[5..]);
        assert_eq!(Attributes::read(&mut input), Some(Attributes::default()));
        assert_eq!(input.number(), Some(7));
        let endless = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Attributes::read(&mut Input::new(&endless)), None);
    }

    #[test]
    fn a_new_files_mode_has_no_kind() {
        let mode = Attributes {
            mode: Some(0o120_777),
            ..Attributes::default()
        };
        assert_eq!(mode.mode_or(0o644), 0o777);
        assert_eq!(Attributes::default().mode_or(0o644), 0o644);
    }
}
