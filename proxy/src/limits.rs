//! Every limit of the proxy, each with its reason. They can be changed one by one; the defaults are the product.

use std::time::Duration;

/// What the proxy puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all. An idle one costs some 36 KiB, so these are 0.7 GB.
    pub connections: usize,
    /// Connections that have not authenticated yet, in all. Half a packet costs 305 KB before authentication: 156 MB.
    pub unauthenticated: usize,
    /// After how long a connection that has not authenticated makes room for another when all places are taken; whoever has two
    /// more than the newcomer does so at once. A login
    /// takes some six round trips, two seconds at the worst; and when all agents of a realm come at once to a small machine that
    /// does a hundred logins a second, all who stand in the doorway are through after five. Who is silent holds up nobody for
    /// longer.
    pub doorway_patience: Duration,
    /// Connections that have not authenticated yet, of one address (of one /64 with IPv6). A site behind one address
    /// logs in 16 devices at a time; a handshake takes a few milliseconds and some round trips.
    pub unauthenticated_per_address: usize,
    /// From the TCP connection to the end of authentication. OpenSSH allows 120 s; a person with a passphrase to type
    /// needs some, and each slot is worth 305 KB to an attacker.
    pub auth_deadline: Duration,
    /// How many keys one connection may ask about that are known. Those that are not known are counted by
    /// [`server_config`](daemon::ssh::server_config); a client has one that is.
    pub key_offers: usize,
    /// How many failed logins of one address (of one /64 with IPv6) are not noticed, beyond the four a second that always are
    /// forgiven: computers that enroll together, and whose keys are on their way. After them each refusal comes later.
    pub failed_logins_free: u32,
    /// How many failed logins shut an address out, until half of them are forgiven: half a minute.
    pub failed_logins_shut: u32,
    /// Addresses whose failed logins are remembered. Some 60 bytes each: 1 MB.
    pub failed_addresses: usize,
    /// Connections of one target: its largest pool, and some that are coming or going.
    pub connections_per_target: usize,
    /// Connections of one controller: each `ssh` through it may have one of its own, and so may each of its users.
    pub connections_per_controller: usize,
    /// Connections of one system, so that others find a place too: half of all.
    pub connections_per_system: usize,
    /// Remote forwards of one connection. A device has a handful of services, each by port and by name.
    pub forwards_per_connection: usize,
    /// Entries (ports and names) of one device, live or kept. All services of an order, by port and by name.
    pub entries_per_device: usize,
    /// Connections of one device that forward the same port: a pool of spares, or several `ssh -R`.
    pub members_per_entry: usize,
    /// Streams of one connection. A browser opens six to a host; 50 parallel requests fit. More could overrun
    /// [`daemon::flow::OUT_MAX`].
    pub streams_per_connection: usize,
    /// Streams of one controller, open or asked for, through all its connections: several browsers, a backup, some terminals.
    pub streams_per_controller: usize,
    /// Streams that one target serves, through all its connections: five browsers of six connections and 50 requests each.
    pub streams_per_target: usize,
    /// Streams of one system, so that others find a place too. Each costs its ends some 20 KiB beside what is buffered, and
    /// that is bounded by connection: 1 MiB until its sender is slowed down, 4 MiB of a foreign one,
    /// [`daemon::flow::HARD_CAP`] at the most.
    pub streams_per_system: usize,
    /// Streams that wait for a forward or for a member with room, in all. A channel and a task each, some 12 KiB: 100 MB.
    pub waiting: usize,
    /// Waiting streams of one system: half of all.
    pub waiting_per_system: usize,
    /// Waiting streams of one controller: somebody who connects to a hundred devices at once.
    pub waiting_per_controller: usize,
    /// Session channels of one connection in its life: they are only told that there is no shell. russh keeps some 3 KiB
    /// of each until the connection ends.
    pub sessions_per_connection: usize,
    /// Channels of one connection which the proxy had to close first, before it drops the connection when idle. russh
    /// keeps some 3 KiB of each until then: 13 MB.
    pub forced_closes_per_connection: u64,
    /// How long a port stays with its device after its last member has gone, so that a reconnecting one gets it again.
    /// An agent's longest backoff, and a restart.
    pub port_keep: Duration,
    /// How many ports without members one device keeps; the oldest goes first.
    pub kept_ports_per_device: usize,
    /// How long a stream waits for a forward that is not there yet: an agent's order, handshake and forward over a slow
    /// link. A name that does not exist, or is not for the asker, is refused after the same time.
    pub forward_wait: Duration,
    /// How long a stream waits for an idle member of an own agent, before it shares a busy one.
    pub share_wait: Duration,
    /// How long a member may take to open a stream: the agent gives its local service five seconds.
    pub open_deadline: Duration,
    /// From a controller's request to the answer, whatever had to be waited for: two members that do not answer. An own
    /// controller waits for [`OPEN_LIMIT`](daemon::ssh_client::OPEN_LIMIT), and should hear why it failed.
    pub stream_deadline: Duration,
    /// How many members a stream is tried on, and how many connections that are about to become members.
    pub tries: usize,
    /// How long a foreign connection without forwards may say nothing, although it is asked: a laptop that sleeps for a
    /// moment keeps its session.
    pub idle_silence: Duration,
    /// Public keys that are read. 16,000 devices, four times over.
    pub keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            unauthenticated: 512,
            doorway_patience: Duration::from_secs(5),
            unauthenticated_per_address: 16,
            auth_deadline: Duration::from_secs(30),
            key_offers: 8,
            failed_logins_free: 40,
            failed_logins_shut: 240,
            failed_addresses: 16_384,
            connections_per_target: 80,
            connections_per_controller: 256,
            connections_per_system: 10_000,
            forwards_per_connection: 32,
            entries_per_device: 64,
            members_per_entry: 64,
            streams_per_connection: 128,
            streams_per_controller: 512,
            streams_per_target: 300,
            streams_per_system: 10_000,
            waiting: 8192,
            waiting_per_system: 4096,
            waiting_per_controller: 128,
            sessions_per_connection: 32,
            forced_closes_per_connection: 4096,
            port_keep: Duration::from_mins(10),
            kept_ports_per_device: 4,
            forward_wait: Duration::from_secs(10),
            share_wait: Duration::from_secs(2),
            open_deadline: Duration::from_secs(6),
            stream_deadline: Duration::from_secs(13),
            tries: 3,
            idle_silence: Duration::from_mins(5),
            keys: 65_536,
        }
    }
}

/// The ports that the proxy allocates: none that looks like a well-known service, up to the last of TCP's, since
/// OpenSSH refuses larger ones.
pub const FIRST_ALLOCATED_PORT: u16 = 10_000;

/// The largest key file that is read, in bytes: an RSA-16384 key has 2.8 KiB.
pub const MAX_KEY_FILE: usize = 16 * 1024;

/// The smallest RSA key that is admitted, in bits (NIST SP 800-131A).
pub const MIN_RSA_BITS: u32 = 2048;

/// The service port that a device's first numeric forward stands for, if it has not registered that name: ssh.
pub const SSH_PORT: u16 = 22;

#[cfg(test)]
mod tests {
    use daemon::ssh_client::OPEN_LIMIT;

    use super::*;

    #[test]
    fn the_numbers_fit_each_other() {
        let limits = Limits::default();
        let margin = Duration::from_secs(1);
        assert!(limits.stream_deadline + margin <= OPEN_LIMIT, "in time");
        assert!(limits.forward_wait + margin <= limits.stream_deadline);
        assert!(2 * limits.open_deadline + margin <= limits.stream_deadline);
        assert!(limits.members_per_entry < limits.connections_per_target);
        assert!(limits.connections_per_system < limits.connections);
        assert!(limits.streams_per_connection < limits.streams_per_controller);
        assert!(limits.streams_per_controller < limits.streams_per_system);
        assert!(limits.waiting_per_controller < limits.streams_per_controller);
        assert!(limits.waiting_per_system < limits.waiting);
        assert!(limits.doorway_patience < limits.auth_deadline);
        assert!(limits.failed_logins_free < limits.failed_logins_shut);
        // Nor is anybody shut out by those that are on their way at one moment.
        assert!(limits.unauthenticated_per_address < limits.failed_logins_shut as usize);
    }
}
