//! Programs of others that no Debian package has: those of the Python and Node package indexes, each set in a folder of the
//! build.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tool;

/// A set of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packages {
    /// What stands in for AWS IoT Core: moto's server, without the parts for other services.
    Moto,
    /// What grades SSH servers.
    SshAudit,
    /// MQTT clients for Python.
    MqttPython,
    /// An MQTT client for Node.
    MqttNode,
}

/// Why a set is not there.
#[derive(Debug)]
pub struct PackagesError(String);

impl Packages {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Moto, Self::SshAudit, Self::MqttPython, Self::MqttNode];

    /// The folder of the set: an environment with `bin/python`, or one with `node_modules`. It is made by whoever comes
    /// first, once for the versions that are asked for; the others wait.
    pub fn install(self) -> Result<PathBuf, PackagesError> {
        self.prepare(&target_directory().join("foreign"))
            .map_err(|error| {
                let list = self.packages().join(" ");
                PackagesError(format!("cannot install {list}: {error}"))
            })
    }

    /// The same, for a test.
    ///
    /// # Panics
    /// When it cannot be installed: what needs it cannot be shown then.
    #[track_caller]
    pub fn folder(self) -> PathBuf {
        self.install().unwrap_or_else(|error| panic!("{error}"))
    }

    fn prepare(self, folder: &Path) -> io::Result<PathBuf> {
        let (name, wanted) = (self.name(), self.packages().join("\n"));
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join(format!("{name}.lock")))?;
        lock.lock()?;
        // Written last, so that what is half made is made again.
        let (home, made) = (folder.join(name), folder.join(format!("{name}.made-of")));
        if fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
            return Ok(home);
        }
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        for mut step in self.steps(&home) {
            succeeded(&step.output()?)?;
        }
        fs::write(&made, wanted)?;
        Ok(home)
    }

    fn steps(self, home: &Path) -> Vec<Command> {
        match self {
            Self::Moto | Self::SshAudit | Self::MqttPython => {
                let mut make = Command::new(tool("python3"));
                make.args(["-m", "venv"]).arg(home);
                let mut install = Command::new(home.join("bin/python"));
                install
                    .args(["-m", "pip", "install", "--quiet", "--no-input"])
                    .arg("--disable-pip-version-check")
                    .args(self.packages());
                vec![make, install]
            }
            Self::MqttNode => {
                let mut install = Command::new(tool("npm"));
                install
                    .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                    .arg(home)
                    .args(self.packages());
                vec![install]
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::SshAudit => "ssh-audit",
            Self::MqttPython => "mqtt-python",
            Self::MqttNode => "mqtt-node",
        }
    }

    /// With the versions that the tests were written against.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Moto => &[
                "moto==5.2.5",
                "flask==3.1.3",
                "flask-cors==6.0.5",
                "PyYAML==6.0.3",
            ],
            Self::SshAudit => &["ssh-audit==3.9.0"],
            Self::MqttPython => &["paho-mqtt==2.1.0", "awsiotsdk==1.31.0"],
            Self::MqttNode => &["mqtt@5.16.0"],
        }
    }
}

impl std::fmt::Display for PackagesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nhint: `apt-get install python3-venv npm`, and see to it that `pip` and `npm` reach their indexes",
            self.0
        )
    }
}

impl std::error::Error for PackagesError {}

fn succeeded(output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{}: {said}", output.status)))
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).to_owned(),
        PathBuf::from,
    )
}
