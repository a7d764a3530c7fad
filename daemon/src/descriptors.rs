//! How many files and sockets a server may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open descriptors as far as it may go, and warns when that is less than a server's own limits
/// promise. The usual soft limit of 1,024 is for programs that use `select(2)`; the hard limit is what an administrator
/// means (systemd's `LimitNOFILE`).
pub fn raise_limit(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if soft < wanted {
        tracing::warn!(
            soft,
            hard,
            wanted,
            "fewer connections than the limits allow fit into the limit of open files"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit(0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
