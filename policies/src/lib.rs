//! Who may do what in a realm: AWS IoT policy documents, read, decided and rendered.
//!
//! The documents `tunnel.target.json` and `tunnel.controller.json` beside this crate are the only statement of the
//! realm's access rules. AWS IoT Core takes them as they are, the embedded broker decides every packet by them, and the
//! access file of a broker that cannot read them is derived from them.
//!
//! 1. [`parse`] reads a document and refuses whatever it does not understand; what is not understood cannot be enforced.
//! 2. [`Policy::bind`] puts a realm's name into it, once.
//! 3. [`BoundPolicy::decide`] answers for one [`Subject`], one [`Action`] and one resource, without allocating.
//! 4. [`render`] writes a document for one AWS account, or the same rules as a mosquitto access file.
//!
//! The crate is pure: no I/O, no clock, no runtime. It decides what a document says; that a topic or a filter is a valid
//! one, and its length, is the broker's to check first.

mod action;
mod arn;
mod bundled;
mod decide;
mod document;
mod json;
mod name;
mod pattern;
pub mod render;
mod statement;
mod subject;
mod variable;

pub use action::{Action, ResourceKind};
pub use arn::ArnError;
pub use bundled::{PolicySet, PolicySetError, RoleDocument};
pub use decide::{BoundPolicy, Decision, MAX_RESOURCE};
pub use document::{MAX_DOCUMENT, ParseError, Policy, RealmError, parse};
pub use name::{MAX_NAME, NameError};
pub use pattern::PatternError;
pub use statement::{Effect, StatementError};
pub use subject::{Subject, SubjectError};
pub use variable::Variable;
