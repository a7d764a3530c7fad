//! Keys of a realm where others read them: the proxy's directory, and the `authorized_keys` of users.

pub(crate) mod account;
#[cfg(feature = "realm")]
pub(crate) mod add_system;
#[cfg(feature = "agent")]
pub(crate) mod agent_sync;
#[cfg(feature = "builtin-ssh")]
pub(crate) mod builtin_file;
#[cfg(feature = "agent")]
pub(crate) mod controller_keys;
mod left_out;
#[cfg(feature = "realm")]
pub(crate) mod proxy_permission;
#[cfg(feature = "realm")]
pub(crate) mod proxy_sync;
pub(crate) mod repeat;
pub(crate) mod write;
