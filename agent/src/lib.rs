//! The remote computer's side: orders in, a tunnel while somebody needs it, replies and presence out.

mod leases;
mod pool;
