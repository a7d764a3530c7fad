//! `tunnel ssh-config`

use std::path::PathBuf;

use controller::{INCLUDE, Installed, OpenError, SshConfig, SshInclude};
use daemon::device_dir::DeviceDir;
use protocol::Role;

use crate::arguments::SshConfig as Arguments;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{cannot, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Arguments) -> Result<u8, Failure> {
    let dir = absolute(&device_dir(dir)?)?;
    if arguments.remove {
        remove(&dir, &include()?)?;
        return Ok(exit::OK);
    }
    let config = config(&dir, arguments.short)?;
    let system = config.name();
    if arguments.install {
        let include = include()?;
        include.install(&system, &block(&config)?)?;
        output::note(format_args!(
            "`ssh USER@DEVICE.{system}` now goes through its tunnel: `{}`, included by `{}`",
            include.file(&system).display(),
            include.config().display()
        ));
    } else {
        output::line(block(&config)?.trim_end());
    }
    Ok(exit::OK)
}

/// Takes the settings away that the controller of this directory has installed. The directory may be gone, or broken: that is
/// when people remove things.
fn remove(dir: &DeviceDir, include: &SshInclude) -> Result<(), Failure> {
    let found = include.installed()?.into_iter();
    // What it has installed under whichever name: a directory may have been another system's before.
    let (ours, others): (Vec<_>, Vec<_>) = found.partition(|one| one.leads_through(dir.path()));
    let mut names: Vec<String> = ours.into_iter().map(|one| one.name).collect();
    let own = dir.membership().ok().map(|membership| membership.id);
    let own = own.filter(|id| id.role() == Role::Controller);
    let own = own.map(|id| format!("{}.{}", id.system(), id.realm()));
    // Where there are no settings there may still be the line.
    names.extend(own.filter(|name| names.is_empty() && !include.file(name).exists()));
    let mut is_known = false;
    for name in &names {
        let removed = include.remove(name)?;
        is_known |= removed.is_something();
        if removed.settings {
            let file = include.file(name);
            output::note(format_args!(
                "ssh knows nothing of `{name}` any more: `{}` is removed",
                file.display()
            ));
        }
        if removed.line {
            output::note(format_args!(
                "`{INCLUDE}` is removed from `{}`",
                include.config().display()
            ));
        }
    }
    if !is_known {
        let dir = dir.path().display();
        output::note(format_args!("ssh knew nothing of `{dir}`"));
        for Installed { name, .. } in others {
            output::note(format_args!(
                "it knows `{name}`, by another directory: `{}`",
                include.file(&name).display()
            ));
        }
    }
    Ok(())
}

fn absolute(dir: &DeviceDir) -> Result<DeviceDir, Failure> {
    let path = std::path::absolute(dir.path());
    let path = path.map_err(|error| cannot("find the device's directory", error))?;
    Ok(DeviceDir::new(path))
}

fn config(dir: &DeviceDir, short: bool) -> Result<SshConfig, Failure> {
    let id = dir.membership()?.id;
    if id.role() != Role::Controller {
        return Err(OpenError::NotAController { id }.into());
    }
    Ok(SshConfig {
        program: std::env::current_exe()
            .map_err(|error| cannot("find this program itself", error))?,
        dir: dir.path().to_owned(),
        key: dir.ssh_key(&id),
        known_hosts: dir.known_hosts(),
        id,
        short,
    })
}

fn block(config: &SshConfig) -> Result<String, Failure> {
    let id = &config.id;
    Ok(format!(
        "# The devices of `{}`, as `{id}` reaches them: `tunnel ssh-config`\n{}",
        config.name(),
        config.block()?
    ))
}

fn include() -> Result<SshInclude, Failure> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| {
        let hint = "put what `tunnel ssh-config` prints where your ssh reads it";
        Failure::text(
            "there is no home directory with ssh's configuration",
            Some(hint),
            exit::CONFIG,
        )
    })?;
    Ok(SshInclude::of_home(&home))
}
