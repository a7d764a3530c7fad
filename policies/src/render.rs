//! The documents in the forms that other brokers read.

mod aws;
mod mosquitto;
mod topics;

pub use aws::{AwsError, MAX_AWS_DOCUMENT, aws};
pub use mosquitto::{Device, MosquittoError, mosquitto};
