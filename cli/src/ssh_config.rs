//! `tunnel ssh-config`

use std::path::{Path, PathBuf};

use controller::{OpenError, SshConfig, SshInclude};
use daemon::device_dir::DeviceDir;
use protocol::Role;

use crate::arguments::SshConfig as Arguments;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{cannot, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Arguments) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let config = config(&dir, arguments.short)?;
    let system = config.name();
    if arguments.remove {
        let include = include()?;
        let text = if include.remove(&system)? {
            format!("ssh knows nothing of `{system}` any more")
        } else {
            format!("ssh knew nothing of `{system}`")
        };
        output::note(text);
    } else if arguments.install {
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

fn config(dir: &DeviceDir, short: bool) -> Result<SshConfig, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|error| cannot("find the device's directory", error))
    };
    let dir = DeviceDir::new(absolute(dir.path())?);
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
