//! The project's chores: `cargo xtask COMMAND`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line for the people who work on the project"
)]

mod arguments;
mod bench;
mod bench_broker;
mod bench_broker_fleet;
mod bench_broker_load;
mod bench_broker_process;
mod bench_broker_rows;
mod bench_connect;
mod bench_proxy;
mod bench_proxy_crowd;
mod bench_proxy_openssh;
mod bench_proxy_peers;
mod bench_proxy_row;
mod bench_proxy_stream;
mod bench_proxy_way;
mod bench_registry;
mod ci;
mod dist;
mod float;
mod newcomer;
mod packages;
mod percentile;
mod step;
mod test;

use std::process::ExitCode;

use arguments::Arguments;
use step::ChoreError;

const USAGE: &str = "\
The project's chores.

Usage: cargo xtask COMMAND

  test [--fast] [-- ARGUMENT…]   every test; installs the Debian packages that the end-to-end tests need when it may.
                                 --fast leaves the end-to-end tests out; arguments go to the test runner
  ci                             everything that has to hold before a change goes in: format, lints, documentation,
                                 licences, lockfile, tests, fuzzing for a bounded time
  dist [--program FILE] [--version V] [--out FOLDER] [--fast]
                                 what is installed: a Debian package, the program without any library, and the agent alone
                                 without any library. With --program only the package, of a program that is built already;
                                 --fast compresses it little
  newcomer [--release]           clones the last commit, and types the README's first command there; without --release it is
                                 built without optimisation, in this checkout's target directory
  bench connect [--runs 50] [--rtt 100ms] [--json] [--check]
                                 time from process start to the remote sshd's banner, beside the original's sequence in
                                 the same run. --rtt puts a delay on every leg of both. --check exits with 1 when a goal
                                 is missed
  bench proxy [--runs 5] [--quick] [--only idle|setup|streams] [--json] [--check]
                                 what idle tunnels cost, how fast they are set up, streams through them, beside OpenSSH in
                                 the same rounds. For figures that count: `cargo run --release -p xtask -- bench proxy`
  bench registry [--requests 1000] [--json]
                                 calls, seconds, CPU time and memory of a bot that signs so many requests in one
                                 repository, and its calls when there is nothing new
  bench broker [--devices 9000] [--sessions 100000] [--json] [--check]
                                 memory, processor time and round trips of the embedded broker, beside mosquitto's in the
                                 same run; then that many sessions without sockets (0: none)
";

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    let done = match arguments.word().as_deref() {
        Some("test") => test::command(arguments),
        Some("ci") => ci::command(arguments),
        Some("newcomer") => newcomer::command(arguments),
        Some("bench") => bench::command(arguments),
        Some("dist") => dist::command(arguments),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(ChoreError::Usage(format!("no command `{other}`"))),
        None => Err(ChoreError::Usage("a command is needed".to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ChoreError::Usage(_)) => {
            eprint!("error: {error}\n\n{USAGE}");
            ExitCode::from(64)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
