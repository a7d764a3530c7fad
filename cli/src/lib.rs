//! The commands of the `tunnel` program: one file a command, and no logic but theirs.

#[cfg(feature = "agent")]
mod agent;
mod agent_lock;
mod arguments;
#[cfg(feature = "realm")]
mod asking;
#[cfg(feature = "builtin-ssh")]
mod builtin_ssh;
#[cfg(feature = "controller")]
mod complete;
#[cfg(feature = "controller")]
mod completions;
#[cfg(feature = "controller")]
mod connect;
#[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
mod demo;
#[cfg(feature = "controller")]
mod disconnect;
mod doctor;
mod enroll;
mod exit;
mod failure;
#[cfg(feature = "controller")]
mod forward;
#[cfg(feature = "realm")]
mod host_key;
#[cfg(feature = "agent")]
mod install;
mod interruption;
#[cfg(any(feature = "agent", feature = "realm"))]
mod keys;
#[cfg(feature = "controller")]
mod list;
#[cfg(any(feature = "agent", feature = "realm"))]
mod monitor;
mod output;
#[cfg(feature = "pages")]
mod pages;
mod paint;
#[cfg(feature = "realm")]
mod passphrase;
#[cfg(feature = "realm")]
mod policies;
mod proof;
#[cfg(any(feature = "agent", feature = "realm"))]
mod realm_access;
#[cfg(feature = "realm")]
mod realm_import;
#[cfg(feature = "realm")]
mod realm_init;
#[cfg(feature = "github")]
mod registry;
mod runtime;
#[cfg(feature = "controller")]
mod seen_devices;
#[cfg(feature = "realm")]
mod serve;
#[cfg(feature = "controller")]
mod service;
#[cfg(feature = "realm")]
mod signatory;
#[cfg(feature = "realm")]
mod signer_once;
#[cfg(feature = "realm")]
mod signing;
#[cfg(feature = "controller")]
mod ssh_config;
#[cfg(feature = "controller")]
mod stdio;
#[cfg(feature = "controller")]
mod target;
#[cfg(feature = "controller")]
mod waiting;
#[cfg(feature = "controller")]
mod web;

use std::process::ExitCode;

#[cfg(feature = "agent")]
use arguments::AgentCommand;
pub use arguments::Arguments;
#[cfg(feature = "builtin-ssh")]
use arguments::BuiltinSsh;
use arguments::Command;
#[cfg(feature = "realm")]
use arguments::{PoliciesCommand, Proxy, ProxyCommand, RealmCommand, SignerCommand};
use failure::Failure;
#[cfg(feature = "realm")]
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
        #[cfg(feature = "agent")]
        Command::Agent(command) => match &command.command {
            Some(AgentCommand::SyncKeys(sync)) => keys::agent_sync::run(dir, sync),
            Some(AgentCommand::Install(install)) => install::run(dir.as_deref(), install),
            Some(AgentCommand::Uninstall(uninstall)) => install::uninstall::run(uninstall),
            None => agent::run(dir, &command),
        },
        #[cfg(feature = "realm")]
        Command::Broker(command) => serve::run(dir, &command, Parts::BROKER),
        #[cfg(feature = "builtin-ssh")]
        Command::BuiltinSsh(BuiltinSsh::Session(session)) => builtin_ssh::session(session),
        #[cfg(feature = "builtin-ssh")]
        Command::BuiltinSsh(BuiltinSsh::Sftp) => builtin_ssh::sftp(),
        #[cfg(feature = "controller")]
        Command::Complete(command) => Ok(complete::run(dir, &command)),
        #[cfg(feature = "controller")]
        Command::Completions(command) => Ok(completions::run(&command)),
        #[cfg(feature = "controller")]
        Command::Connect(command) => connect::run(dir, &command),
        #[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
        Command::Demo(command) => demo::run(&command),
        #[cfg(feature = "controller")]
        Command::Disconnect(command) => disconnect::run(dir, &command),
        Command::Doctor(command) => doctor::run(dir, &command),
        Command::Enroll(command) => enroll::run(dir, &command),
        #[cfg(feature = "controller")]
        Command::Fdpass { socket } => controller::pass_stream(&socket)
            .map(|()| exit::OK)
            .map_err(Failure::from),
        #[cfg(feature = "controller")]
        Command::Forward(command) => forward::run(dir, &command),
        #[cfg(feature = "controller")]
        Command::List(command) => list::run(dir, &command),
        #[cfg(feature = "pages")]
        Command::Pages { folder } => pages::run(&folder),
        #[cfg(feature = "realm")]
        Command::Policies(PoliciesCommand::Aws(command)) => policies::aws(dir, &command),
        #[cfg(feature = "realm")]
        Command::Policies(PoliciesCommand::Mosquitto) => policies::mosquitto(dir),
        #[cfg(feature = "realm")]
        Command::Policies(PoliciesCommand::Nats) => policies::nats(dir),
        #[cfg(feature = "realm")]
        Command::Proxy(Proxy { command, serve }) => match command {
            Some(ProxyCommand::AddSystem(command)) => keys::add_system::run(&command),
            Some(ProxyCommand::Sync(command)) => keys::proxy_sync::run(dir, &command),
            Some(ProxyCommand::HostKey(command)) => host_key::run(dir, &command),
            Some(ProxyCommand::Serve(serve)) => serve::run(dir, &serve, Parts::PROXY),
            None => serve::run(dir, &serve, Parts::PROXY),
        },
        #[cfg(feature = "github")]
        Command::Registry(command) => registry::run(dir, &command),
        #[cfg(feature = "realm")]
        Command::Realm(RealmCommand::Import(command)) => realm_import::run(&command),
        #[cfg(feature = "realm")]
        Command::Realm(RealmCommand::Init(command)) => realm_init::run(dir, &command),
        #[cfg(feature = "realm")]
        Command::Serve(command) => serve::run(dir, &command, Parts::ALL),
        #[cfg(feature = "realm")]
        Command::Signer(SignerCommand::List(command)) => signing::list(dir, &command),
        #[cfg(feature = "realm")]
        Command::Signer(SignerCommand::Readmit(command)) => signing::readmit(dir, &command),
        #[cfg(feature = "realm")]
        Command::Signer(SignerCommand::Revoke(command)) => signing::revoke(dir, &command),
        #[cfg(feature = "realm")]
        Command::Signer(SignerCommand::Run(command)) if command.once => {
            signer_once::run(dir, &command)
        }
        #[cfg(feature = "realm")]
        Command::Signer(SignerCommand::Run(command)) => serve::run_signer(dir, &command),
        #[cfg(feature = "controller")]
        Command::SshConfig(command) => ssh_config::run(dir, &command),
        #[cfg(feature = "controller")]
        Command::Stdio(command) => stdio::run(dir, &command),
        #[cfg(any(feature = "agent", feature = "realm"))]
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
