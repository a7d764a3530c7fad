//! The documents in the forms that other brokers read.

mod aws;
mod device;
mod mosquitto;
mod nats;
mod topics;

pub use aws::{AwsError, MAX_AWS_DOCUMENT, aws};
pub use device::{Device, DuplicateDevice};
pub use mosquitto::{MosquittoError, mosquitto};
pub use nats::{NatsError, nats};
