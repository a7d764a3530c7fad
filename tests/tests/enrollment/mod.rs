//! Enrollment: from a request to a device that may connect, and back to one that may not.

mod agent_keys;
mod github_enroll;
mod github_faults;
mod github_scale;
mod github_stage;
mod github_trust;
mod hostile;
mod house;
mod import;
mod openssh_sync;
mod proxy_sync;
mod renewal;
mod revocation;
mod signer;
mod trust;
mod walk_through;
