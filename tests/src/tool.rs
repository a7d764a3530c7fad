//! The programs of others that the tests drive.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The program's file name.
    pub name: &'static str,
    /// The package to install.
    pub package: &'static str,
}

/// Every program that some test needs.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "ssh",
        package: "openssh-client",
    },
    Tool {
        name: "scp",
        package: "openssh-client",
    },
    Tool {
        name: "sftp",
        package: "openssh-client",
    },
    Tool {
        name: "ssh-keygen",
        package: "openssh-client",
    },
    Tool {
        name: "ssh-agent",
        package: "openssh-client",
    },
    Tool {
        name: "sshd",
        package: "openssh-server",
    },
    Tool {
        name: "mosquitto",
        package: "mosquitto",
    },
    Tool {
        name: "mosquitto_pub",
        package: "mosquitto-clients",
    },
    Tool {
        name: "mosquitto_sub",
        package: "mosquitto-clients",
    },
    Tool {
        name: "mosquitto_rr",
        package: "mosquitto-clients",
    },
    Tool {
        name: "nats-server",
        package: "nats-server",
    },
    Tool {
        name: "python3",
        package: "python3-venv",
    },
    Tool {
        name: "node",
        package: "nodejs",
    },
    Tool {
        name: "npm",
        package: "npm",
    },
    Tool {
        name: "openssl",
        package: "openssl",
    },
    Tool {
        name: "ss",
        package: "iproute2",
    },
    Tool {
        name: "prlimit",
        package: "util-linux",
    },
    Tool {
        name: "unshare",
        package: "util-linux",
    },
    Tool {
        name: "nsenter",
        package: "util-linux",
    },
    Tool {
        name: "bash",
        package: "bash",
    },
    Tool {
        name: "zsh",
        package: "zsh",
    },
    Tool {
        name: "fish",
        package: "fish",
    },
    Tool {
        name: "tmux",
        package: "tmux",
    },
    Tool {
        name: "script",
        package: "bsdutils",
    },
    Tool {
        name: "ssh-keyscan",
        package: "openssh-client",
    },
    Tool {
        name: "strace",
        package: "strace",
    },
    Tool {
        name: "curl",
        package: "curl",
    },
    Tool {
        name: "cmp",
        package: "diffutils",
    },
    Tool {
        name: "sha256sum",
        package: "coreutils",
    },
    Tool {
        name: "rsync",
        package: "rsync",
    },
    Tool {
        name: "git",
        package: "git",
    },
    Tool {
        name: "mount",
        package: "mount",
    },
    Tool {
        name: "ip",
        package: "iproute2",
    },
    Tool {
        name: "tc",
        package: "iproute2",
    },
    Tool {
        name: "nft",
        package: "nftables",
    },
    Tool {
        name: "lintian",
        package: "lintian",
    },
    Tool {
        name: "dpkg-shlibdeps",
        package: "dpkg-dev",
    },
    Tool {
        name: "strip",
        package: "binutils",
    },
    Tool {
        name: "systemd-analyze",
        package: "systemd",
    },
    Tool {
        name: "systemd-sysusers",
        package: "systemd",
    },
    Tool {
        name: "userdel",
        package: "passwd",
    },
    Tool {
        name: "promtool",
        package: "prometheus",
    },
];

/// Daemons live in directories which are not on everybody's `PATH`.
const SYSTEM_DIRECTORIES: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The absolute path of a program (sshd insists on being started by one).
///
/// # Panics
/// When it is not installed, with the package to install.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    if let Some(path) = find(name) {
        return path;
    }
    let package = TOOLS
        .iter()
        .find(|tool| tool.name == name)
        .map_or("the package that has it", |tool| tool.package);
    panic!("`{name}` is not installed: install {package} (`apt-get install {package}`)")
}

/// The tools of [`TOOLS`] that are not installed.
pub fn missing_tools() -> Vec<Tool> {
    TOOLS
        .iter()
        .copied()
        .filter(|tool| find(tool.name).is_none_or(|program| !is_whole(tool.name, &program)))
        .collect()
}

/// Debian's `python3` comes without what makes environments, and a package which has no program adds that.
fn is_whole(name: &str, program: &Path) -> bool {
    name != "python3"
        || Command::new(program)
            .args(["-c", "import ensurepip, venv"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_every_system_has() {
        assert!(tool("sh").is_absolute());
    }

    #[test]
    #[should_panic(expected = "`no-such-program` is not installed")]
    fn a_missing_tool_fails_the_test() {
        tool("no-such-program");
    }
}
