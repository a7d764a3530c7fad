//! All cases, by subject.

pub(super) mod connecting;
pub(super) mod publishing;
pub(super) mod sessions;
pub(super) mod subscribing;
pub(super) mod topics;
pub(super) mod violations;
pub(super) mod wills;

use super::case::Case;

/// Subjects, in the order of the standard.
pub(super) const SUBJECTS: &[(&str, &[Case])] = &[
    ("connecting", connecting::CASES),
    ("sessions", sessions::CASES),
    ("wills", wills::CASES),
    ("publishing", publishing::CASES),
    ("subscribing", subscribing::CASES),
    ("topics", topics::CASES),
    ("violations", violations::CASES),
];
