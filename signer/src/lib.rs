//! The signer: turns certificate requests into certificates.
//!
//! [`Authority`] is the realm's certificate authority. [`Signer`] watches a registry, has each request pass
//! [`request_check`], issues, and answers. A certificate can only be issued for an [`AcceptedRequest`], which only the
//! check makes; what is in the certificate comes from the title and the authority, and only the key from the request.

mod authority;
mod issue;
mod journal;
pub mod request_check;
mod run;
mod server_certificate;
mod validity;

pub use authority::{Authority, AuthorityError, CA_DAYS};
pub use issue::{CLIENT_DAYS, IssueError, Issued};
pub use journal::JournalError;
pub use request_check::{AcceptedRequest, RequestRefusal, Rules};
pub use run::{Outcome, SignError, Signer};
pub use server_certificate::{SERVER_DAYS, ServerCertificate, ServerCertificateError};
