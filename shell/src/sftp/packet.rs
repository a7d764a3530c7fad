//! Packets: what is read from one, and how one is put together. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The rest of a packet that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(&'a [u8]);

/// A packet that is to go.
#[derive(Debug)]
pub(super) struct Output(Vec<u8>);

impl<'a> Input<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Self {
        Self(packet)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A path, in whatever bytes the client has for it; nothing is the present directory.
    pub(super) fn path(&mut self) -> Option<&'a Path> {
        let bytes = self.bytes()?;
        if bytes.contains(&0) {
            return None;
        }
        let bytes = if bytes.is_empty() { b"." } else { bytes };
        Some(Path::new(OsStr::from_bytes(bytes)))
    }
}

impl Output {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    /// The whole packet with its length before it.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut packet = self.0;
        let length = u32::try_from(packet.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(first) = packet.first_chunk_mut() {
            *first = length.to_be_bytes();
        }
        packet
    }
}

/// The longest packet, in bytes: OpenSSH's limit.
pub(super) const MAX_PACKET: u32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_put_together_is_taken_apart() {
        let mut output = Output::new(9);
        output.number(7);
        output.long(1 << 40);
        output.text(b"a/b");
        let packet = output.finish();
        assert_eq!(packet[..4], 20_u32.to_be_bytes());
        let mut input = Input::new(&packet[4..]);
        assert_eq!(input.byte(), Some(9));
        assert_eq!(input.number(), Some(7));
        assert_eq!(input.long(), Some(1 << 40));
        assert_eq!(input.path(), Some(Path::new("a/b")));
        assert_eq!(input.byte(), None);
    }

    #[test]
    fn a_path_is_bytes_without_a_zero() {
        assert_eq!(Input::new(&[0, 0, 0, 0]).path(), Some(Path::new(".")));
        assert_eq!(Input::new(&[0, 0, 0, 2, b'a', 0]).path(), None);
        let odd = Input::new(&[0, 0, 0, 1, 0xff]).path().unwrap();
        assert_eq!(odd.as_os_str().as_bytes(), [0xff]);
    }

    proptest! {
        #[test]
        fn nothing_is_read_that_is_not_there(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut input = Input::new(&packet);
            while let Some(bytes) = input.bytes() {
                prop_assert!(bytes.len() <= packet.len());
            }
        }
    }
}
