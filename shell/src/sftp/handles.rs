//! The files and directories that a client has open.

use std::collections::HashMap;
use std::fs::{File, ReadDir};
use std::path::PathBuf;

/// Something open.
#[derive(Debug)]
pub(super) enum Handle {
    File(File),
    Directory(PathBuf, ReadDir),
}

/// What is open, by the numbers that the client knows.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<u32, Handle>,
    next: u32,
}

impl Handles {
    /// Gives it a number; `None` if too much is open.
    pub(super) fn add(&mut self, handle: Handle) -> Option<u32> {
        if self.open.len() >= MAX_HANDLES {
            return None;
        }
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, handle);
        Some(number)
    }

    pub(super) fn file(&self, name: &[u8]) -> Option<&File> {
        match self.open.get(&number(name)?)? {
            Handle::File(file) => Some(file),
            Handle::Directory(..) => None,
        }
    }

    pub(super) fn directory(&mut self, name: &[u8]) -> Option<(&PathBuf, &mut ReadDir)> {
        match self.open.get_mut(&number(name)?)? {
            Handle::Directory(path, entries) => Some((path, entries)),
            Handle::File(_) => None,
        }
    }

    pub(super) fn close(&mut self, name: &[u8]) -> Option<Handle> {
        self.open.remove(&number(name)?)
    }
}

fn number(name: &[u8]) -> Option<u32> {
    name.try_into().ok().map(u32::from_be_bytes)
}

/// The most that one client may have open: below the usual limit of a process.
pub(super) const MAX_HANDLES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_open_and_each_under_its_own_number() {
        let mut handles = Handles::default();
        let open = || Handle::File(File::open("/dev/null").unwrap());
        let first = handles.add(open()).unwrap();
        let numbers: Vec<u32> = (1..MAX_HANDLES)
            .filter_map(|_| handles.add(open()))
            .collect();
        assert_eq!(numbers.len(), MAX_HANDLES - 1);
        assert_eq!(handles.add(open()), None);
        assert!(!numbers.contains(&first));
        assert!(handles.close(&first.to_be_bytes()).is_some());
        assert!(handles.close(&first.to_be_bytes()).is_none());
        assert!(handles.add(open()).is_some());
        assert!(handles.file(b"no number").is_none());
    }
}
