//! What a client asks to be done with files, and what it is told of it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;
use time::OffsetDateTime;

use super::attributes::{Attributes, Object};
use super::handles::{Handle, Handles, MAX_HANDLES};
use super::listing;
use super::numbers::{kinds, open_flags, status};
use super::packet::{Input, MAX_PACKET, Output};

/// The files of one client.
#[derive(Debug, Default)]
pub(super) struct Files {
    handles: Handles,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Done {
    Nothing,
    End,
    Handle(u32),
    Data(Vec<u8>),
    Attributes(Attributes),
    /// Names, the lines of a listing, and attributes.
    Names(Vec<(Vec<u8>, Vec<u8>, Attributes)>),
    /// The numbers of an extension.
    Numbers(Vec<u64>),
    Failed(io::Error),
    Malformed,
    Unsupported,
}

impl Files {
    /// Does what one packet asks for.
    pub(super) fn request(&mut self, kind: u8, input: &mut Input<'_>) -> Done {
        self.attempt(kind, input).unwrap_or(Done::Malformed)
    }

    fn attempt(&mut self, kind: u8, input: &mut Input<'_>) -> Option<Done> {
        Some(match kind {
            kinds::OPEN => self.open(input.path()?, input.number()?, &Attributes::read(input)?),
            kinds::CLOSE => self
                .handles
                .close(input.bytes()?)
                .map_or_else(bad_handle, |_| Done::Nothing),
            kinds::READ => self.read(input.bytes()?, input.long()?, input.number()?),
            kinds::WRITE => self.write(input.bytes()?, input.long()?, input.bytes()?),
            kinds::LSTAT => told(fs::symlink_metadata(input.path()?)),
            kinds::FSTAT => match self.handles.file(input.bytes()?) {
                Some(file) => told(file.metadata()),
                None => bad_handle(),
            },
            kinds::SETSTAT => done(set(Object::Path(input.path()?), input)?),
            kinds::FSETSTAT => {
                let handle = input.bytes()?;
                let attributes = Attributes::read(input)?;
                match self.handles.file(handle) {
                    Some(file) => done(attributes.set(Object::Open(file))),
                    None => bad_handle(),
                }
            }
            kinds::OPENDIR => self.open_directory(input.path()?),
            kinds::READDIR => self.read_directory(input.bytes()?),
            kinds::REMOVE => done(fs::remove_file(input.path()?)),
            kinds::MKDIR => {
                let path = input.path()?;
                let mode = Attributes::read(input)?.mode_or(0o777);
                done(DirBuilder::new().mode(mode).create(path))
            }
            kinds::RMDIR => done(fs::remove_dir(input.path()?)),
            kinds::REALPATH => named(real_path(input.path()?)),
            kinds::STAT => told(fs::metadata(input.path()?)),
            kinds::RENAME => done(rename_to_new(input.path()?, input.path()?)),
            kinds::READLINK => named(fs::read_link(input.path()?)),
            // OpenSSH has the two the other way round than the draft, and everybody follows it.
            kinds::SYMLINK => done(symlink(input.path()?, input.path()?)),
            kinds::EXTENDED => self.extended(input)?,
            _ => Done::Unsupported,
        })
    }

    fn open(&mut self, path: &Path, flags: u32, attributes: &Attributes) -> Done {
        let has = |flag: u32| flags & flag != 0;
        let mut options = OpenOptions::new();
        options
            .read(has(open_flags::READ))
            .write(has(open_flags::WRITE))
            .append(has(open_flags::APPEND))
            .mode(attributes.mode_or(0o666));
        if has(open_flags::CREATE) && has(open_flags::EXCLUSIVE) {
            options.create_new(true);
        } else {
            options
                .create(has(open_flags::CREATE))
                .truncate(has(open_flags::TRUNCATE));
        }
        match options.open(path) {
            Ok(file) => self.add(Handle::File(file)),
            Err(error) => Done::Failed(error),
        }
    }

    fn open_directory(&mut self, path: &Path) -> Done {
        match fs::read_dir(path) {
            Ok(entries) => self.add(Handle::Directory(path.to_owned(), entries)),
            Err(error) => Done::Failed(error),
        }
    }

    fn add(&mut self, handle: Handle) -> Done {
        match self.handles.add(handle) {
            Some(number) => Done::Handle(number),
            None => Done::Failed(Errno::MFILE.into()),
        }
    }

    fn read(&self, handle: &[u8], offset: u64, length: u32) -> Done {
        let Some(file) = self.handles.file(handle) else {
            return bad_handle();
        };
        let length = usize::try_from(length.min(MAX_DATA)).unwrap_or(0);
        let mut data = vec![0; length];
        match file.read_at(&mut data, offset) {
            Ok(0) if length > 0 => Done::End,
            Ok(count) => {
                data.truncate(count);
                Done::Data(data)
            }
            Err(error) => Done::Failed(error),
        }
    }

    fn write(&self, handle: &[u8], offset: u64, data: &[u8]) -> Done {
        match self.handles.file(handle) {
            Some(file) => done(file.write_all_at(data, offset)),
            None => bad_handle(),
        }
    }

    fn read_directory(&mut self, handle: &[u8]) -> Done {
        let Some((path, entries)) = self.handles.directory(handle) else {
            return bad_handle();
        };
        let now = OffsetDateTime::now_utc();
        // What has gone meanwhile is left out; a reply without any would say that nothing follows.
        let found = entries.by_ref().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let metadata = fs::symlink_metadata(path.join(&name)).ok()?;
            let name = name.as_bytes().to_vec();
            let line = listing::line(&name, &metadata, now);
            Some((name, line, Attributes::of(&metadata)))
        });
        let names: Vec<_> = found.take(ENTRIES).collect();
        if names.is_empty() {
            Done::End
        } else {
            Done::Names(names)
        }
    }

    fn extended(&mut self, input: &mut Input<'_>) -> Option<Done> {
        Some(match input.bytes()? {
            b"posix-rename@openssh.com" => done(fs::rename(input.path()?, input.path()?)),
            b"hardlink@openssh.com" => done(fs::hard_link(input.path()?, input.path()?)),
            b"lsetstat@openssh.com" => done(set(Object::Link(input.path()?), input)?),
            b"expand-path@openssh.com" => named(real_path(&expanded(input.path()?))),
            b"fsync@openssh.com" => match self.handles.file(input.bytes()?) {
                Some(file) => done(file.sync_all()),
                None => bad_handle(),
            },
            b"limits@openssh.com" => Done::Numbers(vec![
                MAX_PACKET.into(),
                MAX_DATA.into(),
                MAX_DATA.into(),
                u64::try_from(MAX_HANDLES).unwrap_or(0),
            ]),
            b"statvfs@openssh.com" => match statvfs(input.path()?) {
                Ok(found) => Done::Numbers(vec![
                    found.f_bsize,
                    found.f_frsize,
                    found.f_blocks,
                    found.f_bfree,
                    found.f_bavail,
                    found.f_files,
                    found.f_ffree,
                    found.f_favail,
                    found.f_fsid,
                    found.f_flag.bits() & (READ_ONLY | NO_SETUID),
                    found.f_namemax,
                ]),
                Err(error) => Done::Failed(error.into()),
            },
            _ => Done::Unsupported,
        })
    }
}

impl Done {
    /// The packet that says so.
    pub(super) fn reply(self, number: u32) -> Output {
        let begin = |kind| {
            let mut output = Output::new(kind);
            output.number(number);
            output
        };
        let (code, text) = match self {
            Self::Handle(handle) => {
                let mut output = begin(kinds::HANDLE);
                output.text(&handle.to_be_bytes());
                return output;
            }
            Self::Data(data) => {
                let mut output = begin(kinds::DATA);
                output.text(&data);
                return output;
            }
            Self::Names(names) => {
                let mut output = begin(kinds::NAME);
                output.number(u32::try_from(names.len()).unwrap_or(0));
                for (name, line, attributes) in names {
                    output.text(&name);
                    output.text(&line);
                    attributes.write(&mut output);
                }
                return output;
            }
            Self::Attributes(attributes) => {
                let mut output = begin(kinds::ATTRS);
                attributes.write(&mut output);
                return output;
            }
            Self::Numbers(numbers) => {
                let mut output = begin(kinds::EXTENDED_REPLY);
                for number in numbers {
                    output.long(number);
                }
                return output;
            }
            Self::Nothing => (status::OK, "Success".to_owned()),
            Self::End => (status::EOF, "End of file".to_owned()),
            Self::Failed(error) => (code(&error), error.to_string()),
            Self::Malformed => (status::BAD_MESSAGE, "Bad message".to_owned()),
            Self::Unsupported => (status::OP_UNSUPPORTED, "Operation unsupported".to_owned()),
        };
        let mut output = begin(kinds::STATUS);
        output.number(code);
        output.text(text.as_bytes());
        output.text(b"en");
        output
    }
}

fn set(object: Object<'_>, input: &mut Input<'_>) -> Option<io::Result<()>> {
    Some(Attributes::read(input)?.set(object))
}

fn done(result: io::Result<()>) -> Done {
    result.map_or_else(Done::Failed, |()| Done::Nothing)
}

fn told(result: io::Result<fs::Metadata>) -> Done {
    result.map_or_else(Done::Failed, |found| {
        Done::Attributes(Attributes::of(&found))
    })
}

fn named(result: io::Result<PathBuf>) -> Done {
    result.map_or_else(Done::Failed, |path| {
        let name = path.as_os_str().as_bytes().to_vec();
        Done::Names(vec![(name.clone(), name, Attributes::default())])
    })
}

fn bad_handle() -> Done {
    Done::Failed(Errno::BADF.into())
}

/// The codes of version 3.
fn code(error: &io::Error) -> u32 {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP) => status::NO_SUCH_FILE,
        Some(Errno::PERM | Errno::ACCESS | Errno::FAULT) => status::PERMISSION_DENIED,
        Some(Errno::NOSYS | Errno::OPNOTSUPP) => status::OP_UNSUPPORTED,
        Some(_) | None => status::FAILURE,
    }
}

/// The last part need not be there: clients ask for the whole name of what they are about to make.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let found = fs::canonicalize(path);
    let is_new = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
    match path.file_name().filter(|_| is_new) {
        Some(name) => {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            Ok(fs::canonicalize(parent.unwrap_or(Path::new(".")))?.join(name))
        }
        None => found,
    }
}

/// `~` and `~/…` are the user's home; nobody else's is asked for.
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        (Ok(_) | Err(_), _) => path.to_owned(),
    }
}

/// In version 3 a rename replaces nothing.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that knows no such rename.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(Errno::EXIST.into());
            }
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

/// The most data of one packet, in bytes: OpenSSH's, which leaves room for the rest.
const MAX_DATA: u32 = MAX_PACKET - 1024;

/// Entries of one reply, as many as OpenSSH sends: their names have at most 255 bytes, and it stays below [`MAX_PACKET`].
const ENTRIES: usize = 100;

/// The two flags of a file system that the extension has.
const READ_ONLY: u64 = 1;
const NO_SETUID: u64 = 2;
