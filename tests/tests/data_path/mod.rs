//! The proxy as strangers meet it: floods, audits, and a host key that changes.

mod attacks;
mod audit;
mod host_key;
