//! A realm whose devices AWS IoT Core signs.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::aws::{Aws, AwsCertificate};
use e2e::{CEILING, Device, Outcome, World, run, tool};

pub(crate) struct AwsStage {
    pub(crate) aws: Aws,
    pub(crate) world: World,
}

impl AwsStage {
    #[track_caller]
    pub(crate) fn new() -> Self {
        let world = World::new();
        let aws = Aws::start(&world);
        let file = world.realm().join("realm.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("signed_by = \"aws-iot\"\n{text}")).unwrap();
        let stage = Self { aws, world };
        stage.write_server(&stage.aws.table());
        stage
    }

    /// Writes `server.toml` with this end.
    pub(crate) fn write_server(&self, end: &str) {
        let file = self.world.realm().join("server.toml");
        let text = fs::read_to_string(&file).unwrap();
        let before = text.split("\n[signer.aws]").next().unwrap();
        fs::write(&file, format!("{before}{end}")).unwrap();
    }

    pub(crate) fn device(&self, name: &str) -> Device {
        Device::new(&self.world.path("devices"), "hula", name)
    }

    /// `tunnel enroll`, which waits this long.
    pub(crate) fn enroll(&self, device: &Device, wait: &str) -> Outcome {
        let mut enroll = self.world.tunnel();
        enroll
            .args(["enroll", device.system(), device.device(), "--no-proof"])
            .args(["--wait", wait, "--realm"])
            .arg(self.world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(device.dir());
        run(&mut enroll, CEILING)
    }

    /// Hands a device's key and request in.
    pub(crate) fn hand_in(&self, name: &str) -> Device {
        let device = self.device(name);
        let outcome = self.enroll(&device, "0s");
        assert!(
            outcome.stderr.contains("was not signed"),
            "{}",
            outcome.report()
        );
        device
    }

    /// As who has lost a device: its name from another directory, without waiting.
    pub(crate) fn enroll_anew(&self, newcomer: &Device, name: &str) -> Outcome {
        let mut enroll = self.world.tunnel();
        enroll
            .args(["enroll", newcomer.system(), name, "--no-proof"])
            .args(["--replace", "--wait", "0s", "--realm"])
            .arg(self.world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(newcomer.dir());
        run(&mut enroll, CEILING)
    }

    /// Has AWS sign a request of this subject for somebody who shares the account.
    #[track_caller]
    pub(crate) fn sign_for_another(&self, subject: &str) {
        let mut command = Command::new(tool("openssl"));
        command
            .args(["req", "-new", "-nodes", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject])
            .arg("-keyout")
            .arg(self.world.path("foreign.key"));
        let csr = run(&mut command, CEILING).success().stdout;
        self.aws.sign_for_another(&csr);
    }

    /// A command of `tunnel signer` with credentials.
    pub(crate) fn signer(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.tunnel();
        self.aws
            .give_credentials(&mut command)
            .arg("signer")
            .args(arguments)
            .arg("--dir")
            .arg(self.world.realm());
        command
    }

    #[track_caller]
    pub(crate) fn sign_once(&self) -> Outcome {
        run(&mut self.signer(&["run", "--once"]), CEILING)
    }

    #[track_caller]
    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let outcome = run(&mut self.signer(&["list", "--json"]), CEILING).success();
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// What AWS has for a device, by the subject that openssl reads.
    pub(crate) fn certificates(&self, device: &str) -> Vec<AwsCertificate> {
        let mut all = self.aws.certificates();
        all.retain(|certificate| subject(&self.world, &certificate.pem).contains(device));
        all
    }
}

/// The subject of a certificate, as openssl reads it.
#[track_caller]
pub(crate) fn subject(world: &World, pem: &str) -> String {
    let file = world.path("looked-at.pem");
    fs::write(&file, pem).unwrap();
    openssl(&["x509", "-noout", "-subject", "-in"], &file)
}

#[track_caller]
pub(crate) fn openssl(arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(tool("openssl"));
    run(command.args(arguments).arg(file), CEILING)
        .success()
        .stdout
}
