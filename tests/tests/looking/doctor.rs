//! The doctor before set-ups that are broken in one way each: it names the leg, and what to do.

mod at_the_device;
mod here;
mod on_the_way;
mod patient;
mod screen;

/// Not permitted or no such device (`EX_NOPERM` of sysexits.h).
const REFUSED: i32 = 77;
/// Offline or not reachable (`EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;
/// What somebody else sent is wrong (`EX_DATAERR`).
const DATA: i32 = 65;
/// The settings (`EX_CONFIG`).
const CONFIGURATION: i32 = 78;
/// The command line (`EX_USAGE`).
const USAGE: i32 = 64;
