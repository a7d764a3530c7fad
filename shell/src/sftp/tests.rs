//! The file server as a client sees it, over pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::numbers::{kinds, open_flags, status};
use super::packet::{Input, Output};
use super::*;

/// Sends these packets, and returns the replies without their lengths.
fn exchange(packets: Vec<Output>) -> Vec<Vec<u8>> {
    let sent: Vec<u8> = packets.into_iter().flat_map(Output::finish).collect();
    let mut said = Vec::new();
    serve(sent.as_slice(), &mut said).unwrap();
    let (mut rest, mut replies) = (said.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (packet, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        replies.push(packet.to_vec());
        rest = after;
    }
    replies
}

fn packet(kind: u8, build: impl FnOnce(&mut Output)) -> Output {
    let mut output = Output::new(kind);
    output.number(42);
    build(&mut output);
    output
}

fn with_path(kind: u8, path: &Path) -> Output {
    packet(kind, |output| {
        output.text(path.to_str().unwrap().as_bytes());
    })
}

/// The kind of a reply, and the first number of what it holds.
fn summary(reply: &[u8]) -> (u8, u32) {
    let mut input = Input::new(reply);
    let kind = input.byte().unwrap();
    assert_eq!(input.number(), Some(42));
    (kind, input.number().unwrap())
}

fn open(path: &Path, flags: u32) -> Output {
    packet(kinds::OPEN, |output| {
        output.text(path.to_str().unwrap().as_bytes());
        output.number(flags);
        output.number(0);
    })
}

#[test]
fn the_version_is_three_whatever_the_client_speaks() {
    let mut init = Output::new(INIT);
    init.number(6);
    let replies = exchange(vec![init]);
    let mut input = Input::new(&replies[0]);
    assert_eq!((input.byte(), input.number()), (Some(VERSION), Some(3)));
    assert_eq!(input.bytes(), Some(&b"posix-rename@openssh.com"[..]));
}

#[test]
fn a_file_is_written_read_and_its_end_is_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a");
    let handle = 0_u32.to_be_bytes();
    let replies = exchange(vec![
        open(
            &path,
            open_flags::READ | open_flags::WRITE | open_flags::CREATE | open_flags::TRUNCATE,
        ),
        packet(kinds::WRITE, |output| {
            output.text(&handle);
            output.long(2);
            output.text(b"hello");
        }),
        packet(kinds::READ, |output| {
            output.text(&handle);
            output.long(0);
            output.number(u32::MAX);
        }),
        packet(kinds::READ, |output| {
            output.text(&handle);
            output.long(7);
            output.number(1);
        }),
        packet(kinds::CLOSE, |output| output.text(&handle)),
        packet(kinds::CLOSE, |output| output.text(&handle)),
    ]);
    assert_eq!(summary(&replies[0]), (kinds::HANDLE, 4));
    assert_eq!(summary(&replies[1]), (kinds::STATUS, status::OK));
    assert_eq!(summary(&replies[2]), (kinds::DATA, 7));
    assert!(replies[2].ends_with(b"\0\0hello"));
    assert_eq!(summary(&replies[3]), (kinds::STATUS, status::EOF));
    assert_eq!(summary(&replies[4]), (kinds::STATUS, status::OK));
    assert_eq!(
        summary(&replies[5]),
        (kinds::STATUS, status::NO_SUCH_FILE),
        "it was closed"
    );
    assert_eq!(fs::read(&path).unwrap(), b"\0\0hello");
}

#[test]
fn a_rename_replaces_nothing_and_the_extension_does() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::write(&from, "new").unwrap();
    fs::write(&to, "old").unwrap();
    let both = |output: &mut Output| {
        output.text(from.to_str().unwrap().as_bytes());
        output.text(to.to_str().unwrap().as_bytes());
    };
    let replies = exchange(vec![packet(kinds::RENAME, both)]);
    assert_eq!(summary(&replies[0]), (kinds::STATUS, status::FAILURE));
    assert_eq!(fs::read(&to).unwrap(), b"old");
    let posix = packet(kinds::EXTENDED, |output| {
        output.text(b"posix-rename@openssh.com");
        both(output);
    });
    assert_eq!(
        summary(&exchange(vec![posix])[0]),
        (kinds::STATUS, status::OK)
    );
    assert_eq!(fs::read(&to).unwrap(), b"new");
}

#[test]
fn refusals_say_what_kind_they_are() {
    let home = tempfile::tempdir().unwrap();
    let missing = home.path().join("missing");
    fs::write(home.path().join("there"), "").unwrap();
    let replies = exchange(vec![
        with_path(kinds::STAT, &missing),
        open(&missing, open_flags::READ),
        open(
            &home.path().join("there"),
            open_flags::WRITE | open_flags::CREATE | open_flags::EXCLUSIVE,
        ),
        with_path(kinds::RMDIR, home.path()),
        packet(99, |_| {}),
        packet(kinds::STAT, |output| output.number(1000)),
        packet(kinds::EXTENDED, |output| {
            output.text(b"unknown@example.org");
        }),
    ]);
    let codes: Vec<_> = replies.iter().map(|reply| summary(reply)).collect();
    let expected = [
        status::NO_SUCH_FILE,
        status::NO_SUCH_FILE,
        status::FAILURE,
        status::FAILURE,
        status::OP_UNSUPPORTED,
        status::BAD_MESSAGE,
        status::OP_UNSUPPORTED,
    ]
    .map(|code| (kinds::STATUS, code));
    assert_eq!(codes, expected);
}

#[test]
fn a_directory_is_listed_once_with_what_ls_would_say() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("a file"), "hello").unwrap();
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(home.path().join("a file"), mode).unwrap();
    let handle = 0_u32.to_be_bytes();
    let list = || packet(kinds::READDIR, |output| output.text(&handle));
    let replies = exchange(vec![with_path(kinds::OPENDIR, home.path()), list(), list()]);
    assert_eq!(summary(&replies[1]), (kinds::NAME, 1));
    let text = String::from_utf8_lossy(&replies[1]).into_owned();
    assert!(text.contains("-rw-r-----    1 "), "{text}");
    assert_eq!(summary(&replies[2]), (kinds::STATUS, status::EOF));
}

#[test]
fn a_listing_goes_on_behind_entries_that_have_gone() {
    let home = tempfile::tempdir().unwrap();
    let fill = |names: std::ops::Range<u32>| {
        for number in names {
            fs::write(home.path().join(number.to_string()), "").unwrap();
        }
    };
    fill(0..2_000);
    let mut files = Files::default();
    let mut ask = |kind, text: &[u8]| {
        let mut output = Output::new(kind);
        output.text(text);
        let packet = output.finish();
        let reply = files.request(kind, &mut Input::new(&packet[5..])).reply(42);
        reply.finish()[4..].to_vec()
    };
    let path = home.path().to_str().unwrap().as_bytes();
    assert_eq!(summary(&ask(kinds::OPENDIR, path)), (kinds::HANDLE, 4));
    let handle = 0_u32.to_be_bytes();
    assert_eq!(summary(&ask(kinds::READDIR, &handle)), (kinds::NAME, 100));
    // The next hundreds are on their way already, and are gone when they are looked at.
    let there = fs::read_dir(home.path()).unwrap();
    let there: Vec<_> = there.map(|entry| entry.unwrap().path()).collect();
    let (gone, last) = there[100..].split_at(1_500);
    for path in gone {
        fs::remove_file(path).unwrap();
    }
    let mut listed = 0;
    loop {
        match summary(&ask(kinds::READDIR, &handle)) {
            (kinds::NAME, count) => listed += count,
            end => {
                assert_eq!(end, (kinds::STATUS, status::EOF));
                break;
            }
        }
    }
    assert_eq!(listed as usize, last.len());
}

#[test]
fn the_whole_name_of_what_is_not_there_yet_is_told() {
    let home = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(home.path()).unwrap();
    let replies = exchange(vec![
        with_path(kinds::REALPATH, &home.path().join("./new")),
        with_path(kinds::REALPATH, &home.path().join("no/new")),
    ]);
    assert_eq!(summary(&replies[0]), (kinds::NAME, 1));
    let name = real.join("new");
    let name = name.to_str().unwrap().as_bytes();
    assert!(replies[0].windows(name.len()).any(|part| part == name));
    assert_eq!(summary(&replies[1]), (kinds::STATUS, status::NO_SUCH_FILE));
}

#[test]
fn what_is_too_long_ends_it_before_it_is_read() {
    for length in [0, MAX_PACKET + 1, u32::MAX] {
        let error = serve(&length.to_be_bytes()[..], Vec::new()).unwrap_err();
        assert!(matches!(error, SftpError::TooLong(found) if found == length));
    }
    let cut_off = [0, 0, 0, 9, 3, 0];
    let error = serve(&cut_off[..], Vec::new()).unwrap_err();
    assert!(matches!(error, SftpError::Malformed), "{error}");
}

proptest! {
    /// Only requests that change nothing: everything else would be done, as its user.
    #[test]
    fn whatever_comes_is_answered_or_ends_it(
        kind in prop::sample::select(vec![1_u8, 4, 5, 7, 8, 12, 16, 17, 19, 21, 255]),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut output = Output::new(kind);
        output.number(42);
        let mut sent = output.finish();
        sent.extend_from_slice(&body);
        let length = u32::try_from(sent.len() - 4).unwrap();
        sent[..4].copy_from_slice(&length.to_be_bytes());
        let mut said = Vec::new();
        serve(sent.as_slice(), &mut said).unwrap();
        prop_assert!(said.len() > 8);
    }
}
