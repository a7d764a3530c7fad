//! The file server: version 3 of the protocol (draft-ietf-secsh-filexfer-02), with those of OpenSSH's extensions that its
//! own clients use.
//!
//! It runs in a process of its own, one request at a time, and has the rights of its user and no others, as OpenSSH's
//! `sftp-server` does. What it keeps is bounded: one packet, and so many open files.

mod attributes;
mod files;
mod handles;
mod listing;
mod numbers;
mod packet;

use std::io::{self, Read, Write};

use self::files::Files;
use self::numbers::kinds::{INIT, VERSION};
use self::packet::{Input, MAX_PACKET, Output};

/// Why the file server has ended before its client did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SftpError {
    /// The client cannot be read from or written to.
    #[error("the client is lost")]
    Lost(#[source] io::Error),
    /// What came is too long to be a request.
    #[error("a packet of {0} bytes is too long")]
    TooLong(u32),
    /// What came is none.
    #[error("a packet is no request")]
    Malformed,
}

/// Serves one client until it sends no more.
pub fn serve(mut from: impl Read, mut to: impl Write) -> Result<(), SftpError> {
    let mut files = Files::default();
    let mut buffer = Vec::new();
    while let Some(length) = read_length(&mut from)? {
        if length == 0 || length > MAX_PACKET {
            return Err(SftpError::TooLong(length));
        }
        buffer.clear();
        let count = (&mut from)
            .take(length.into())
            .read_to_end(&mut buffer)
            .map_err(SftpError::Lost)?;
        if u32::try_from(count) != Ok(length) {
            return Err(SftpError::Malformed);
        }
        let reply = answer(&mut files, &buffer).ok_or(SftpError::Malformed)?;
        let written = to.write_all(&reply.finish()).and_then(|()| to.flush());
        written.map_err(SftpError::Lost)?;
    }
    Ok(())
}

/// The length of the next packet; `None` at the end.
fn read_length(from: &mut impl Read) -> Result<Option<u32>, SftpError> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => Ok(Some(u32::from_be_bytes(length))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(SftpError::Lost(error)),
    }
}

/// The reply to one packet; `None` if it has not even a number that could be answered.
fn answer(files: &mut Files, packet: &[u8]) -> Option<Output> {
    let mut input = Input::new(packet);
    let kind = input.byte()?;
    let number = input.number()?;
    if kind == INIT {
        return Some(version());
    }
    let done = files.request(kind, &mut input);
    Some(done.reply(number))
}

fn version() -> Output {
    let mut output = Output::new(VERSION);
    output.number(3);
    for (name, version) in EXTENSIONS {
        output.text(name.as_bytes());
        output.text(version.as_bytes());
    }
    output
}

const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

#[cfg(test)]
mod tests;
