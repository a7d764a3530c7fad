//! A realm whose registry is the stand-in for GitHub.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use e2e::github::GitHub;
use e2e::{CEILING, Daemon, Device, Outcome, World, run, tool};

/// The realm's bot signs, `octo` may upload everything, and `mallory` may open issues, like everybody.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) github: GitHub,
    /// The token of `octo`.
    pub(crate) octo: String,
    /// The token of the bot.
    pub(crate) bot: String,
}

pub(crate) const BOT: &str = "atlas-bot";

impl Stage {
    #[track_caller]
    pub(crate) fn new() -> Self {
        let (world, github) = (World::new(), GitHub::start());
        let file = world.realm().join("realm.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (before, _) = text.split_once("[registry]").unwrap();
        fs::write(&file, format!("{before}{}", github.registry_table(&[BOT]))).unwrap();
        let rule =
            "version = 1\n[[upload]]\nwho = \"github:octo\"\nsystems = [\"*\"]\nwhat = \"all\"\n";
        fs::write(world.realm().join("trust.toml"), rule).unwrap();
        let bot = github.token(BOT, true);
        let stage = Self {
            octo: github.token("octo", false),
            bot,
            world,
            github,
        };
        stage.keep_token(&stage.bot);
        stage
    }

    /// Puts a token where the realm's services find it.
    pub(crate) fn keep_token(&self, token: &str) {
        let file = self.world.realm().join("gh-token.txt");
        let text = format!("{token}\n{}\n", self.github.host());
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `tunnel enroll` by `octo`.
    pub(crate) fn enroll_command(&self, device: &Device) -> Command {
        let mut command = self.world.tunnel();
        command
            .env("GH_HOST", self.github.host())
            .env("GITHUB_ENTERPRISE_TOKEN", &self.octo)
            .args(["enroll", device.system(), device.device(), "--realm"])
            .arg(self.world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(device.dir());
        command
    }

    pub(crate) fn device(&self, name: &str) -> Device {
        Device::new(&self.world.path("devices"), "hula", name)
    }

    /// Hands in a device's key and request without waiting for the certificate.
    #[track_caller]
    pub(crate) fn hand_in(&self, device: &Device) -> Outcome {
        let mut enroll = self.enroll_command(device);
        enroll.args(["--wait", "0s"]);
        let outcome = run(&mut enroll, CEILING);
        assert!(
            outcome.stderr.contains("was not signed"),
            "{}",
            outcome.report()
        );
        outcome
    }

    /// `tunnel signer run --once`
    #[track_caller]
    pub(crate) fn sign_once(&self) -> Outcome {
        run(&mut self.signer_once(), CEILING)
    }

    pub(crate) fn signer_once(&self) -> Command {
        let mut command = self.world.tunnel();
        command
            .args(["signer", "run", "--once", "-v", "--dir"])
            .arg(self.world.realm());
        command
    }

    /// `tunnel registry …` as the realm's admin.
    #[track_caller]
    pub(crate) fn registry(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.world.tunnel();
        command
            .arg("registry")
            .args(arguments)
            .arg("--dir")
            .arg(self.world.realm());
        run(&mut command, CEILING)
    }

    /// A request for a certificate, with a key made for it, as its text.
    #[track_caller]
    pub(crate) fn request(&self, device: &str) -> String {
        let key = self.world.path("request.key");
        if !key.exists() {
            let mut make = Command::new(tool("openssl"));
            make.args([
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .arg("-out")
            .arg(&key);
            run(&mut make, CEILING).success();
        }
        let mut make = Command::new(tool("openssl"));
        make.args(["req", "-new", "-subj"])
            .arg(format!("/CN={device}.hula.atlas/OU={device}/O=hula"))
            .arg("-key")
            .arg(&key);
        run(&mut make, CEILING).success().stdout
    }

    /// The certificate issues of a device that are open.
    pub(crate) fn certificates(&self, device: &str) -> Vec<e2e::github::Issue> {
        let title = format!("{device}.hula.atlas.x509.cert");
        let mut issues = self.github.issues(&title);
        issues.retain(|issue| issue.open);
        issues
    }

    /// The text of every log and every output there is.
    pub(crate) fn logs(&self) -> String {
        let files = fs::read_dir(self.world.logs()).unwrap();
        let paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
        texts.collect()
    }
}

/// A public key as anybody can hand it in.
pub(crate) fn key(id: &str) -> String {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
    format!("{key} {id}\n")
}

/// What a process was started with.
pub(crate) fn command_line(daemon: &Daemon) -> String {
    fs::read_to_string(format!("/proc/{}/cmdline", daemon.pid())).unwrap()
}
