//! Keys of a realm where others read them: the proxy's directory, and the `authorized_keys` of users.

pub(crate) mod account;
pub(crate) mod add_system;
pub(crate) mod agent_sync;
mod left_out;
pub(crate) mod proxy_permission;
pub(crate) mod proxy_sync;
pub(crate) mod repeat;
pub(crate) mod write;
