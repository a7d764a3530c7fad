//! `tunnel agent install`: the agent as a service of systemd, without a package.

use std::env;
use std::path::{Path, PathBuf};

use daemon::device_dir::DeviceDir;

use crate::agent;
use crate::arguments::{Enroll, Install};
use crate::enroll;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::cannot;

mod place;
mod step;
mod systemctl;
pub(crate) mod uninstall;

use place::Place;
use step::Step;
use systemctl::Systemctl;

/// Does what is not done yet, and says so.
pub(crate) fn run(dir: Option<&Path>, arguments: &Install) -> Result<u8, Failure> {
    let place = Place::of(arguments.root.clone());
    place.check()?;
    check_directory(dir, &place)?;
    let packaged = place.is_packaged();
    let program = env::current_exe().map_err(|error| cannot("find this program", error))?;
    let steps = steps(&place, packaged, program);
    let device = DeviceDir::new(place.keys());
    if arguments.dry_run {
        foretell(&steps, &device, arguments)?;
        return Ok(exit::OK);
    }
    let mut changed = false;
    for step in &steps {
        if !step.is_done()? {
            step.perform()?;
            output::note(step);
            changed = true;
        }
    }
    if wants_enrollment(&device, arguments) {
        enroll::run(Some(place.keys()), &arguments.enroll)?;
        changed = true;
    }
    let systemctl = Systemctl::of(&place);
    systemctl.enable(changed)?;
    if arguments.root.is_some() {
        output::note("the agent will start when this system does");
        return Ok(exit::OK);
    }
    let status = systemctl.start(changed)?;
    output::note(format_args!("the agent runs: {status}"));
    Ok(exit::OK)
}

/// What has to be there before this computer can enroll.
fn steps(place: &Place, packaged: bool, program: PathBuf) -> Vec<Step> {
    let mut steps = Vec::new();
    if !packaged {
        steps.push(Step::Program {
            from: program,
            to: place.program(),
        });
        steps.push(Step::Text {
            to: place.unit(),
            text: UNIT.replace("/usr/bin/tunnel", "/usr/local/bin/tunnel"),
        });
        steps.push(Step::Text {
            to: place.users(),
            text: USERS.to_owned(),
        });
        steps.push(Step::Users {
            place: place.clone(),
        });
    }
    steps.push(Step::Keys {
        place: place.clone(),
    });
    steps
}

/// An image may be enrolled where it first runs; a computer that runs is of no use without.
fn wants_enrollment(device: &DeviceDir, arguments: &Install) -> bool {
    let Enroll { system, realm, .. } = &arguments.enroll;
    if arguments.root.is_some() && system.is_none() && realm.is_none() {
        return false;
    }
    arguments.enroll.renew || !agent::is_enrolled(device)
}

fn foretell(steps: &[Step], device: &DeviceDir, arguments: &Install) -> Result<(), Failure> {
    for step in steps {
        let done = if step.is_done()? {
            "is so already"
        } else {
            "to do"
        };
        output::line(format_args!("{done}: {step}"));
    }
    if wants_enrollment(device, arguments) {
        output::line("to do: this computer enrolled");
    }
    output::line("to do: `tunnel-agent.service` enabled");
    if arguments.root.is_none() {
        output::line("to do: `tunnel-agent.service` started, and online");
    }
    Ok(())
}

/// The unit names the directory: another would be enrolled, and not served.
fn check_directory(dir: Option<&Path>, place: &Place) -> Result<(), Failure> {
    match dir {
        Some(dir) if dir != place.keys() => Err(Failure::text(
            format!(
                "the service has its keys in `{}`, and not in `{}`",
                place.keys().display(),
                dir.display()
            ),
            Some("leave `--dir` out, and TUNNEL_DIR"),
            exit::USAGE,
        )),
        Some(_) | None => Ok(()),
    }
}

const UNIT: &str = include_str!("../../packaging/systemd/tunnel-agent.service");
const USERS: &str = include_str!("../../packaging/sysusers.d/tunnel-agent.conf");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_keys_in_one_place() {
        let place = Place::of(Some("/mnt".into()));
        assert!(check_directory(None, &place).is_ok());
        assert!(check_directory(Some(Path::new("/mnt/etc/tunnel")), &place).is_ok());
        let other = check_directory(Some(Path::new("/home/you/keys")), &place);
        insta::assert_snapshot!(other.unwrap_err(), @r"
        error: the service has its keys in `/mnt/etc/tunnel`, and not in `/home/you/keys`
        hint: leave `--dir` out, and TUNNEL_DIR
        ");
    }
}
