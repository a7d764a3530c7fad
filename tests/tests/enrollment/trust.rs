//! Who is trusted: said in a file, or asked once at a terminal.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use e2e::{CEILING, Outcome, World, run, tool};

/// A user of this machine whom nobody has spoken of. To give files to them takes the right to do so, as in a container.
const STRANGER: u32 = 54_321;

/// A request that a stranger has put into the registry.
pub(super) struct Strangers {
    pub(super) world: World,
    request: PathBuf,
    body: String,
}

impl Strangers {
    pub(super) fn new(device: &str) -> Self {
        let world = World::new();
        let mut enroll = world.tunnel();
        enroll
            .args(["enroll", "hula", device, "--no-proof", "--wait", "10ms"])
            .arg("--realm")
            .arg(world.realm().join("realm.toml"))
            .arg("--dir")
            .arg(world.path("device"));
        let outcome = run(&mut enroll, CEILING);
        assert!(
            outcome.stderr.contains("was not signed within"),
            "{}",
            outcome.report()
        );
        let request = world
            .realm()
            .join("registry")
            .join(format!("{device}.hula.atlas.x509.csr"));
        let body = fs::read_to_string(&request).unwrap();
        let strangers = Self {
            world,
            request,
            body,
        };
        strangers.upload();
        strangers
    }

    /// Uploads it, again perhaps: an earlier answer does not count for it.
    pub(super) fn upload(&self) {
        let answer = format!("{}.refused", self.request.display());
        let _ = fs::remove_file(answer);
        fs::write(&self.request, &self.body).unwrap();
        chown(&self.request, Some(STRANGER), None)
            .expect("the tests may give files away: run them as root, as in a container");
    }

    pub(super) fn sign(&self) -> Outcome {
        run(&mut self.signer(), CEILING).success()
    }

    fn signer(&self) -> Command {
        let mut signer = self.world.tunnel();
        signer
            .args(["signer", "run", "--once", "--dir"])
            .arg(self.world.realm());
        signer
    }

    fn trust_file(&self) -> PathBuf {
        self.world.realm().join("trust.toml")
    }

    fn add_rule(&self, rule: &str) {
        let text = fs::read_to_string(self.trust_file()).unwrap();
        fs::write(self.trust_file(), format!("{text}\n[[upload]]\n{rule}\n")).unwrap();
    }
}

#[test]
fn a_stranger_is_refused_unattended_and_told_so_once() {
    let strangers = Strangers::new("333");
    let outcome = strangers.sign();
    let reason = "refused: user id 54321 may not request a certificate for `333.hula.atlas`";
    assert!(outcome.stdout.contains(reason), "{}", outcome.report());
    let answer = fs::read_to_string(format!("{}.refused", strangers.request.display())).unwrap();
    assert!(answer.contains("ask the realm's administrator"), "{answer}");
    let again = strangers.sign();
    assert!(
        again.stdout.contains("was refused before"),
        "{}",
        again.report()
    );
}

#[test]
fn a_rule_lets_them_in_for_its_system_and_role_only() {
    let strangers = Strangers::new("333");
    strangers.add_rule("who = \"uid:54321\"\nsystems = [\"kiwi\"]\nwhat = \"all\"");
    assert!(strangers.sign().stdout.contains("refused"));
    strangers.add_rule("who = \"uid:54321\"\nsystems = [\"hula\"]\nwhat = \"controllers\"");
    strangers.upload();
    assert!(strangers.sign().stdout.contains("refused"));
    strangers.add_rule("who = \"uid:54321\"\nsystems = [\"hula\"]");
    strangers.upload();
    let outcome = strangers.sign();
    assert!(
        outcome.stdout.contains("signed, serial"),
        "{}",
        outcome.report()
    );
}

#[test]
fn a_running_signer_knows_a_new_rule_without_a_restart() {
    let strangers = Strangers::new("controller-x");
    let _signer = strangers.world.signer();
    let answer = PathBuf::from(format!("{}.refused", strangers.request.display()));
    e2e::wait_until("the refusal", CEILING, || {
        fs::read_to_string(&answer).map_err(|error| error.to_string())
    });
    strangers.add_rule("who = \"uid:*\"\nsystems = [\"*\"]\nwhat = \"all\"");
    strangers.upload();
    let certificate = strangers.request.with_extension("cert");
    e2e::wait_until("the certificate", CEILING, || {
        fs::read_to_string(&certificate).map_err(|error| error.to_string())
    });
}

#[test]
fn a_damaged_file_of_trust_stops_the_signer_before_it_begins() {
    let strangers = Strangers::new("333");
    fs::write(strangers.trust_file(), "version = 1\n[[uploads]]\n").unwrap();
    let outcome = run(&mut strangers.signer(), CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("trust.toml"),
        "{}",
        outcome.report()
    );
}

#[test]
fn at_a_terminal_a_person_is_asked_once_and_the_answer_is_remembered() {
    let strangers = Strangers::new("333");
    let command = format!(
        "{} signer run --once --dir {}",
        e2e::tunnel_binary().display(),
        strangers.world.realm().display()
    );
    let answers = strangers.world.path("answers");
    // What is neither yes nor no is asked again.
    fs::write(&answers, "what?\ny\n").unwrap();
    let mut terminal = Command::new(tool("script"));
    strangers.world.mark(&mut terminal);
    terminal.args(["-qec", &command, "/dev/null"]);
    let outcome = strangers
        .world
        .run_from(&mut terminal, &answers, CEILING)
        .success();
    let asked = outcome.stdout.matches("Permit them to enroll").count();
    assert_eq!(asked, 2, "{}", outcome.report());
    assert!(
        outcome.stdout.contains("signed, serial"),
        "{}",
        outcome.report()
    );
    let file = fs::read_to_string(strangers.trust_file()).unwrap();
    assert!(file.contains("who = \"uid:54321\""), "{file}");

    // From now on nobody needs to be asked.
    let other = Strangers::new("334");
    fs::copy(strangers.trust_file(), other.trust_file()).unwrap();
    assert!(other.sign().stdout.contains("signed, serial"));
}
