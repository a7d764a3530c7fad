//! `tunnel ssh-config`

use std::path::PathBuf;

use controller::{Installed, OpenError, SshConfig, SshInclude};
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
    let own = dir.membership().ok().map(|membership| membership.id);
    let own = own.filter(|id| id.role() == Role::Controller);
    let (asked, names) = if let Some(id) = &own {
        let name = format!("{}.{}", id.system(), id.realm());
        (name.clone(), vec![name])
    } else {
        let found = include.installed()?.into_iter();
        let ours = found.filter(|one| one.leads_through(dir.path()));
        let asked = dir.path().display().to_string();
        (asked, ours.map(|one| one.name).collect())
    };
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
                "nothing is included by `{}` any more",
                include.config().display()
            ));
        }
    }
    if !is_known {
        output::note(format_args!("ssh knew nothing of `{asked}`"));
        for Installed { name, .. } in include.installed()? {
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
