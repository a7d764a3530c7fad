//! The signer: turns certificate requests into certificates.
//!
//! [`Authority`] is the realm's certificate authority. [`Signer`] watches a registry, has each request pass
//! [`request_check`], issues, and answers. A certificate can only be issued for an [`AcceptedRequest`], which only the
//! check makes; what is in the certificate comes from the title and the authority, and only the key from the request.

mod authority;
#[cfg(feature = "aws")]
mod aws;
pub mod crl;
mod issue;
mod journal;
mod ledger;
mod misnamed;
pub mod passphrase;
pub mod request_check;
mod request_identity;
mod revocation;
mod run;
mod server_certificate;
mod signatory;
mod turn;
mod unusable_keys;
mod validity;
mod vitals;
mod waiting;
mod withdrawal;
#[cfg(test)]
mod words;

pub use authority::{Authority, AuthorityError, CA_DAYS};
#[cfg(feature = "aws")]
pub use aws::{Aws, AwsError};
pub use crl::CrlError;
pub use issue::{CLIENT_DAYS, IssueError, Issued};
pub use journal::JournalError;
pub use ledger::{
    CertificateState, LedgerEntry, LedgerError, ReadableLedger, Unreadable, ledger, readable_ledger,
};
pub use passphrase::Passphrase;
pub use request_check::{AcceptedRequest, RequestRefusal, Rules};
pub use revocation::{Revocation, RevocationError, Revocations};
pub use run::{Outcome, SignError, Signer};
pub use server_certificate::{SERVER_DAYS, ServerCertificate, ServerCertificateError};
pub use signatory::Signatory;
pub use vitals::Vitals;
pub use withdrawal::withdraw;
