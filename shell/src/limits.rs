//! Every limit of the service, with its reason.

use std::time::Duration;

/// Those of the limits that tests make smaller, for want of time and processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) strangers: usize,
    pub(crate) connections: usize,
    pub(crate) processes: usize,
    pub(crate) login: Duration,
    pub(crate) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: STRANGERS,
            connections: CONNECTIONS,
            processes: PROCESSES,
            login: LOGIN,
            stall: STALL,
        }
    }
}

/// Connections at one time that have not logged in: as many as may, since a script starts all of its own at once. They take no
/// place of those that have. When all are taken, a newcomer gets one of whoever has most.
const STRANGERS: usize = CONNECTIONS;

/// Connections at one time that have logged in: as many streams as a device has connections for.
const CONNECTIONS: usize = 64;

/// Sessions of one connection at one time: a shared connection (`ControlMaster`) of a build with 20 jobs, and then some.
pub(crate) const SESSIONS: usize = 32;

/// Processes of all connections at one time, so that a script in a loop cannot fill the computer.
const PROCESSES: usize = 128;

/// Streams of one connection at one time, forwarded either way: what a browser behind `ssh -D` opens.
pub(crate) const STREAMS: usize = 256;

/// Ports that one connection may have forwarded to it.
pub(crate) const LISTENERS: usize = 16;

/// What a session may ask for before it begins: a terminal, two dozen variables, and room.
pub(crate) const REQUESTS: usize = 128;

/// What they may hold together, in bytes: a command and its variables, twice. Without it each could be as long as a packet.
pub(crate) const REQUESTS_SIZE: usize = 256 * 1024;

/// Requests on channels that cannot have any, in all the life of a connection.
pub(crate) const STRAY_REQUESTS: usize = 256;

/// Sessions that could not begin, in all the life of a connection. Why is kept until its client reads it, which may be never.
pub(crate) const REFUSED_SESSIONS: usize = 256;

/// Variables of a session: the locale has 13.
pub(crate) const VARIABLES: usize = 32;

/// The length of a variable's name and value together, in bytes: a locale's are short.
pub(crate) const VARIABLE: usize = 1024;

/// The length of a command, in bytes. The kernel takes 128 KiB in one argument.
pub(crate) const COMMAND: usize = 120 * 1024;

/// The length of a terminal's name, in bytes: the names of terminfo are shorter.
pub(crate) const TERMINAL_NAME: usize = 64;

/// Rows or columns of a terminal: more than fit on any wall, and programs multiply them.
pub(crate) const TERMINAL_SIDE: u16 = 4096;

/// Channels that were closed from this side, after which an idle connection is ended: russh keeps a little of each.
pub(crate) const CLOSED_CHANNELS: u64 = 2_000;

/// How many keys of one connection are looked at: as many as OpenSSH's server refuses.
pub(crate) const KEY_OFFERS: usize = 8;

/// How long a client may take to log in: the key may be in an agent that asks a person.
const LOGIN: Duration = Duration::from_mins(1);

/// How long a connection to a forwarded destination may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// How often it is seen whether a connection's key is still permitted.
pub(crate) const KEY_LOOK: Duration = Duration::from_secs(2);

/// How long a session may leave its input unread, while others of its connection wait behind it.
const STALL: Duration = Duration::from_mins(2);

/// How long a peer may take to read why it is cut off, and then how long its sessions may take to end.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

/// What is read from a process at once, in bytes: what one packet of OpenSSH holds.
pub(crate) const CHUNK: usize = 32 * 1024;
