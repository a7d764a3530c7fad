//! What does not count in the registry, told once for as long as it lies there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use enrollment::key_sync::LeftOut;

/// Remembers what it has told.
#[derive(Default)]
pub(crate) struct LeftOutLog {
    told: Mutex<BTreeSet<String>>,
}

impl LeftOutLog {
    /// Tells of those that are new since the last time.
    pub(crate) fn tell<'a>(&self, uploads: impl Iterator<Item = &'a LeftOut>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeSet::new();
        for LeftOut {
            title,
            author,
            reason,
        } in uploads
        {
            let text = format!("`{title}` of {author} is left out: {reason}");
            if !told.contains(&text) {
                tracing::warn!("{text}");
            }
            now.insert(text);
        }
        *told = now;
    }
}
