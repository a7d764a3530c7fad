//! The realm's broker: the embedded one, and others in its place.

mod external;
mod external_aws;
mod external_mosquitto;
mod external_nats;
