//! Getting a device its identity: keys, the certificate request, and the registry where they meet the signer.
//!
//! [`Enrollment`] is the whole of it for the device's side. The registry is a trait, [`Registry`]; what enters through
//! it was written by strangers, so every title is a [`Title`], every body has a limit, and each of [`public_key`] and
//! [`certificate_check`] turns text into a value that only its check can make.

pub mod any_registry;
pub mod authorized_file;
pub mod authorized_keys;
pub mod certificate_check;
pub mod csr;
pub mod directory;
pub mod enroll;
mod file_stamp;
mod folder;
#[cfg(feature = "github")]
pub mod github;
pub mod key_directory;
pub mod key_sync;
pub mod misnamed;
pub mod pem_block;
pub mod permission;
pub mod properties;
pub mod public_key;
pub mod registry;
mod replace;
pub mod revoked;
mod revoked_store;
pub mod ssh_key;
pub mod subject;
pub mod title;
pub mod trust;
pub mod trust_rule;
pub mod trust_store;
pub mod validity;
#[cfg(test)]
mod words;
pub mod x509_key;

pub use any_registry::AnyRegistry;
pub use certificate_check::CheckedCertificate;
pub use directory::Directory;
pub use enroll::{EnrollError, Enrolled, Enrollment, Event, Obtained};
#[cfg(feature = "github")]
pub use github::GitHub;
pub use key_sync::{PermittedKeys, permitted_keys};
pub use misnamed::Misnamed;
pub use permission::{Decision, UploadPermission};
pub use public_key::DeviceKey;
pub use registry::{Author, BodyFault, Entry, Refusal, Registry, RegistryError, Revision};
pub use revoked::Revoked;
pub use revoked_store::RevokedStore;
pub use title::{Kind, Title, TitleError};
pub use trust::Trust;
pub use trust_store::TrustStore;
pub use validity::Validity;
