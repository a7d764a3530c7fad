//! The commands of the `tunnel` program: one file a command, and no logic but theirs.

mod agent;
mod arguments;
mod asking;
mod connect;
mod demo;
mod disconnect;
mod enroll;
mod exit;
mod failure;
mod host_key;
mod interruption;
mod keys;
mod list;
mod output;
mod passphrase;
mod policies;
mod proof;
mod realm_access;
mod realm_import;
mod realm_init;
mod registry;
mod runtime;
mod serve;
mod signatory;
mod signer_once;
mod signing;
mod stdio;
mod target;
mod waiting;

use std::process::ExitCode;

pub use arguments::Arguments;
use arguments::{
    AgentCommand, Command, PoliciesCommand, Proxy, ProxyCommand, RealmCommand, SignerCommand,
};
use failure::Failure;
use serve::Parts;

/// Runs the command that the arguments name, prints its error if it has one, and tells the exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments
        .start_logging()
        .map_err(Failure::from)
        .and_then(|()| command(arguments))
    {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::error(&failure.to_string());
            ExitCode::from(failure.code())
        }
    }
}

fn command(arguments: Arguments) -> Result<u8, Failure> {
    let dir = arguments.dir;
    match arguments.command {
        Command::Agent(command) => match &command.command {
            Some(AgentCommand::SyncKeys(sync)) => keys::agent_sync::run(dir, sync),
            None => agent::run(dir, &command),
        },
        Command::Broker(command) => serve::run(dir, &command, Parts::BROKER),
        Command::Connect(command) => connect::run(dir, &command),
        Command::Demo(command) => demo::run(&command),
        Command::Disconnect(command) => disconnect::run(dir, &command),
        Command::Enroll(command) => enroll::run(dir, &command),
        Command::Fdpass { socket } => controller::pass_stream(&socket)
            .map(|()| exit::OK)
            .map_err(Failure::from),
        Command::List(command) => list::run(dir, &command),
        Command::Policies(PoliciesCommand::Aws(command)) => policies::aws(dir, &command),
        Command::Policies(PoliciesCommand::Mosquitto) => policies::mosquitto(dir),
        Command::Policies(PoliciesCommand::Nats) => policies::nats(dir),
        Command::Proxy(Proxy { command, serve }) => match command {
            Some(ProxyCommand::AddSystem(command)) => keys::add_system::run(&command),
            Some(ProxyCommand::Sync(command)) => keys::proxy_sync::run(dir, &command),
            Some(ProxyCommand::HostKey(command)) => host_key::run(dir, &command),
            Some(ProxyCommand::Serve(serve)) => serve::run(dir, &serve, Parts::PROXY),
            None => serve::run(dir, &serve, Parts::PROXY),
        },
        Command::Registry(command) => registry::run(dir, &command),
        Command::Realm(RealmCommand::Import(command)) => realm_import::run(&command),
        Command::Realm(RealmCommand::Init(command)) => realm_init::run(dir, &command),
        Command::Serve(command) => serve::run(dir, &command, Parts::ALL),
        Command::Signer(SignerCommand::List(command)) => signing::list(dir, &command),
        Command::Signer(SignerCommand::Readmit(command)) => signing::readmit(dir, &command),
        Command::Signer(SignerCommand::Revoke(command)) => signing::revoke(dir, &command),
        Command::Signer(SignerCommand::Run(command)) if command.once => {
            signer_once::run(dir, &command)
        }
        Command::Signer(SignerCommand::Run(command)) => serve::run_signer(dir, &command),
        Command::Stdio(command) => stdio::run(dir, &command),
        Command::WriteKeys(command) => keys::write::run(&command),
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed standard output is no reason for another message.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(exit::USAGE)
    } else {
        ExitCode::from(exit::OK)
    }
}
