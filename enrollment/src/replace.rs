//! A file of an open directory in place of another: the old one or the new one is there at any moment, and no link is followed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, openat, renameat, unlinkat};

/// Makes this the content of the file of this name, and this its mode. It is on the disk when this returns.
pub(crate) fn replace(
    directory: &OwnedFd,
    name: &str,
    content: &[u8],
    mode: Mode,
) -> io::Result<()> {
    let temporary = temporary_name();
    let written = write_new(directory, &temporary, content, mode)
        .and_then(|()| Ok(renameat(directory, &temporary, directory, name)?));
    if written.is_err() {
        // The failure itself is what matters; the leftover would only add to it.
        let _ = unlinkat(directory, &temporary, AtFlags::empty());
    }
    written.and_then(|()| Ok(fsync(directory)?))
}

fn write_new(directory: &OwnedFd, name: &str, content: &[u8], mode: Mode) -> io::Result<()> {
    // `EXCL` never follows a link either.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let private = Mode::from_raw_mode(0o600);
    let mut file = File::from(openat(directory, name, flags, private)?);
    file.write_all(content)?;
    // Whatever the umask says.
    fchmod(&file, mode)?;
    file.sync_all()
}

/// A name that nobody can have put there before, for as long as the final one is not due.
pub(crate) fn temporary_name() -> String {
    format!(".{:032x}.tmp", rand::random::<u128>())
}

/// Whether this is such a name.
pub(crate) fn is_temporary(name: &str) -> bool {
    let digits = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
    digits.is_some_and(|n| n.len() == 32 && n.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
