//! Every limit of the wire, each with its reason. A value beyond its limit is refused, never cut.

/// The longest label, in octets: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// The longest device id or client id, in octets: a DNS name in presentation form (RFC 1035, section 2.3.4, gives
/// 255 octets on the wire, which are 253 characters of text).
pub const MAX_NAME: usize = 253;

/// The largest payload of an order, a reply or a presence, in bytes. A reply with eight host keys of 4 KiB RSA size
/// would be 6 KiB; AWS IoT Core takes 128 KiB.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// The largest payload in the original's plain grammar, in bytes. `connected|port=65535` has 20; the rest is room for
/// further `|key=value` fields, which both sides ignore.
pub const MAX_PLAIN: usize = 256;

/// The longest topic, in bytes: an order's, with four labels of 63. AWS IoT Core takes 256, enough for all but the very
/// longest names.
pub const MAX_TOPIC: usize = 4 * MAX_LABEL + "///tunnel/control/".len();

/// The most levels of a topic: AWS IoT Core takes 7 slashes.
pub const MAX_TOPIC_LEVELS: usize = 8;

/// The most services in one order or reply. A device offers a handful; 16 keeps a reply far below [`MAX_PAYLOAD`].
pub const MAX_SERVICES: usize = 16;

/// The most host keys in one reply: sshd has one for each of three or four algorithms.
pub const MAX_HOST_KEYS: usize = 8;

/// The longest host key line, in bytes: an RSA-16384 key is 2.8 KiB in base64.
pub const MAX_HOST_KEY: usize = 4096;

/// The longest explanation in a refusal, in bytes: two lines of a terminal for each of a text and a hint.
pub const MAX_TEXT: usize = 512;

/// The most controllers in a presence. A device holds as many leases; with names of the longest kind they are 4 KiB.
pub const MAX_CONTROLLERS: usize = 64;

/// The longest version string in a presence, in bytes.
pub const MAX_VERSION: usize = 64;

/// The longest address of a proxy in a reply or a presence, in bytes: a DNS name, a colon and a port.
pub const MAX_ADDRESS: usize = MAX_NAME + 6;

/// The longest life of a lease between two orders, in seconds. A controller renews long before; an hour bounds what a
/// vanished one can hold open.
pub const MAX_LIFETIME: u32 = 3600;

/// How far the clocks of a controller and a device may differ, in seconds, before an order counts as old. Devices
/// without a battery-backed clock drift by minutes; more than five and TLS certificates begin to fail too.
pub const CLOCK_SKEW: u64 = 300;
