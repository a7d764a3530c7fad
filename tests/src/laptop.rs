//! The computer of somebody who connects, with a home directory that ssh takes for his.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Device, World, tool, tunnel_binary};

/// A home directory with a controller's in it, and `tunnel` on the `PATH`.
///
/// ssh asks the user database for the home directory and not the environment, so that commands here run with a database of
/// their own (in a mount namespace). The names of both have what shells and ssh's settings treat in a special way; a `%` in
/// the home itself is too much for ssh.
#[derive(Debug)]
pub struct Laptop<'a> {
    world: &'a World,
    home: PathBuf,
    dir: PathBuf,
    passwd: PathBuf,
    programs: PathBuf,
}

impl<'a> Laptop<'a> {
    /// The laptop of this controller, whose files are copied to it.
    ///
    /// # Panics
    /// When the world's folder cannot be written.
    #[track_caller]
    pub fn new(world: &'a World, controller: &Device) -> Self {
        let home = world.path("it's a home");
        let dir = home.join(".config/100% tunnel");
        fs::create_dir_all(&dir).expect("the world's folder is writable");
        for entry in fs::read_dir(controller.dir()).expect("a controller has a directory") {
            let from = entry.expect("a directory can be listed").path();
            let to = dir.join(from.file_name().expect("an entry has a name"));
            fs::copy(&from, &to).expect("the world's folder is writable");
        }
        let programs = world.path("programs");
        fs::create_dir(&programs).expect("the world's folder is writable");
        symlink(tunnel_binary(), programs.join("tunnel")).expect("the folder is writable");
        let passwd = world.path("passwd");
        fs::write(&passwd, database(&home)).expect("the world's folder is writable");
        Self {
            world,
            home,
            dir,
            passwd,
            programs,
        }
    }

    /// Its home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The controller's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A command there, with nothing on standard input.
    ///
    /// # Panics
    /// When a directory of the `PATH` cannot be in one.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tool("unshare"));
        self.world.mark(&mut command);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        command
            .env("HOME", &self.home)
            .env("TUNNEL_DIR", &self.dir)
            .env(
                "PATH",
                std::env::join_paths(path).expect("no directory has a colon"),
            )
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("GIT_SSH_COMMAND")
            .current_dir(&self.home)
            .stdin(Stdio::null());
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc/passwd && exec \"$@\"")
            .arg(&self.passwd)
            .arg(program);
        command
    }

    /// A line for the shell there.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = self.command("bash");
        command.args(["-ec", line]);
        command
    }
}

/// The user database, with another home for who runs the tests.
fn database(home: &Path) -> String {
    let user = rustix::process::geteuid().as_raw().to_string();
    let text = fs::read_to_string("/etc/passwd").expect("every system has users");
    text.lines()
        .map(|line| {
            let mut fields: Vec<&str> = line.split(':').collect();
            let home = home.to_string_lossy();
            // In a user namespace everybody is root.
            if fields.get(2).is_some_and(|id| *id == user || *id == "0")
                && let Some(field) = fields.get_mut(5)
            {
                *field = &home;
            }
            fields.join(":") + "\n"
        })
        .collect()
}
