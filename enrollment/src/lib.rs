//! Getting a device its identity: keys, the certificate request, and the registry where they meet the signer.
//!
//! [`Enrollment`] is the whole of it for the device's side. The registry is a trait, [`Registry`]; what enters through
//! it was written by strangers, so every title is a [`Title`], every body has a limit, and each of [`public_key`] and
//! [`certificate_check`] turns text into a value that only its check can make.

pub mod certificate_check;
pub mod csr;
pub mod directory;
pub mod enroll;
mod folder;
pub mod pem_block;
pub mod permission;
pub mod public_key;
pub mod registry;
pub mod ssh_key;
pub mod subject;
pub mod title;
pub mod x509_key;

pub use certificate_check::CheckedCertificate;
pub use directory::Directory;
pub use enroll::{EnrollError, Enrolled, Enrollment, Event};
pub use permission::UploadPermission;
pub use public_key::DeviceKey;
pub use registry::{Author, BodyFault, Entry, Refusal, Registry, RegistryError, Revision};
pub use title::{Kind, Title, TitleError};
