//! A session begins: its process is started, and its channel handed to the task that serves it.

use std::sync::Arc;

use russh::Error;
use russh::server::Session;

use super::Visitor;
use super::asked::Asked;
use crate::limits::REFUSED_SESSIONS;
use crate::process::{Process, Program, Start};
use crate::relay::Relay;

/// Starts what was asked for, and answers the request for it.
pub(super) fn begin(
    visitor: &mut Visitor,
    asked: Asked,
    program: Program,
    who: &str,
    session: &mut Session,
) -> Result<(), Error> {
    let Asked {
        channel,
        place,
        terminal,
        variables,
        ..
    } = asked;
    let id = channel.id();
    let house = Arc::clone(&visitor.house);
    let Ok(room) = Arc::clone(&house.processes).try_acquire_owned() else {
        tracing::warn!(
            controller = who,
            "a session was refused: there are too many processes"
        );
        return refuse(
            visitor,
            id,
            "there are too many sessions on this computer",
            session,
        );
    };
    tracing::info!(controller = who, what = %named(&program), terminal = terminal.is_some(), "a session begins");
    let started = Process::start(Start {
        executable: &house.executable,
        user: &house.user,
        who,
        program,
        variables,
        terminal,
    });
    let (process, streams) = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::warn!(controller = who, %error, "a session could not begin");
            return refuse(visitor, id, "this computer cannot start a process", session);
        }
    };
    session.channel_success(id)?;
    let relay = Relay {
        channel,
        flow: visitor.flow.clone(),
        handle: session.handle(),
        process,
        streams,
        stall: house.limits.stall,
    };
    let stop = visitor.stop.clone();
    visitor.tasks.spawn(async move {
        relay.run(stop).await;
        drop((place, room));
    });
    Ok(())
}

/// Says why, where OpenSSH's client shows it: what comes before a failure it does not.
fn refuse(
    visitor: &mut Visitor,
    id: russh::ChannelId,
    why: &str,
    session: &mut Session,
) -> Result<(), Error> {
    visitor.flow.close(id);
    visitor.flow.closed_by_force();
    visitor.refused += 1;
    if visitor.refused > REFUSED_SESSIONS {
        return Err(Error::Inconsistent);
    }
    session.channel_success(id)?;
    session.extended_data(id, STDERR, format!("tunnel: {why}\r\n").into_bytes())?;
    session.exit_status_request(id, CANNOT)?;
    session.eof(id)?;
    session.close(id)
}

/// For the log: a command itself may hold what is nobody's business.
fn named(program: &Program) -> &'static str {
    match program {
        Program::Login => "login",
        Program::Command(_) => "command",
        Program::Sftp => "sftp",
    }
}

/// RFC 4254, section 5.2.
const STDERR: u32 = 1;

/// What shells exit with when a command cannot be run.
const CANNOT: u32 = 126;
