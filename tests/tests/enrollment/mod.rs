//! Enrollment: from a request to a device that may connect, and back to one that may not.

mod agent_keys;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "aws")]
mod aws_refusals;
#[cfg(feature = "aws")]
mod aws_stage;
mod github_enroll;
mod github_faults;
mod github_hostile;
mod github_killed;
mod github_scale;
mod github_stage;
mod github_trust;
mod hostile;
mod house;
mod import;
mod mosquitto_rules;
mod openssh_stage;
mod openssh_sync;
mod passphrase;
mod proxy_sync;
mod remedies;
mod renewal;
mod revocation;
mod seen;
mod signer;
mod strangers;
mod trust;
mod walk_through;

pub(crate) use github_stage::Stage;
pub(crate) use house::House;
