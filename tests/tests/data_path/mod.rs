//! The data path beside the main job: what a device offers, links that fail, and the proxy as strangers meet it.

mod always_on;
mod attacks;
mod audit;
mod copies;
mod faults;
mod hooks;
mod host_key;
mod pauses;
mod remote;
mod returns;
mod services;
mod transfers;
