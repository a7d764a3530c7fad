//! The `tunnel` program.

use std::process::ExitCode;

use clap::Parser;

/// A server that has had a crowd should not keep its memory: docs/decisions/0019-memory-back.md.
#[cfg(all(feature = "realm", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::usage(&error),
    };
    cli::run(arguments)
}
