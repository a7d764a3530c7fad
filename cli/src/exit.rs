//! The exit codes, as in `sysexits.h`. `connect` otherwise ends with the remote command's code, which is rarely one of
//! these, and with 255 when ssh itself fails.

/// It worked.
pub(crate) const OK: u8 = 0;

/// Something failed that has no code of its own.
pub(crate) const FAILURE: u8 = 1;

/// The command line is wrong (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;

/// What came from somebody else is wrong: a certificate, a reply, a changed host key (`EX_DATAERR`).
pub(crate) const DATA: u8 = 65;

/// The device is offline, or broker or proxy cannot be reached; later it may work (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;

/// It is not permitted, or there is no such device: the two look the same (`EX_NOPERM`).
pub(crate) const REFUSED: u8 = 77;

/// The configuration, a key or a certificate of this computer is missing or wrong (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;
