//! What russh needs of a runtime, in the place of the published crate of this name.
//!
//! The published `spawn` awaits the session's future in an async block, which keeps room for it twice: once as it was
//! captured, once as it is awaited. For a server's session that is 12 KiB more in each idle connection
//! (`docs/decisions/0023-one-copy-of-a-session.md`). Here the future is the task.

pub mod runtime;
pub mod time;
