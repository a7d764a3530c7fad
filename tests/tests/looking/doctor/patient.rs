//! Computers to be broken, and what the doctor says of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{CEILING, Device, Outcome, World, run};
use serde_json::Value;

/// A copy of a controller's directory, which can be broken without harm to another.
pub(super) struct Patient<'a> {
    world: &'a World,
    pub(super) dir: PathBuf,
}

impl<'a> Patient<'a> {
    #[track_caller]
    pub(super) fn of(world: &'a World, controller: &Device, name: &str) -> Self {
        let dir = world.path(&format!("patient-{name}"));
        let mut copy = Command::new("cp");
        run(copy.arg("-a").arg(controller.dir()).arg(&dir), CEILING).success();
        Self { world, dir }
    }

    /// One whose directory is not there.
    pub(super) fn nobody(world: &'a World) -> Self {
        let dir = world.path("nothing-here");
        Self { world, dir }
    }

    pub(super) fn file(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("controller-a.hula.atlas.{kind}"))
    }

    #[track_caller]
    pub(super) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    #[track_caller]
    pub(super) fn open_to_others(&self, kind: &str, mode: &str) {
        let mut chmod = Command::new("chmod");
        run(chmod.arg(mode).arg(self.file(kind)), CEILING).success();
    }

    /// What `tunnel doctor --json` says of it, with these words more.
    #[track_caller]
    pub(super) fn ask(&self, words: &[&str]) -> Diagnosis {
        Diagnosis::of(self.world, &self.dir, words)
    }
}

/// What the doctor has said.
pub(super) struct Diagnosis(Outcome);

impl Diagnosis {
    /// Of whatever computer has this directory.
    #[track_caller]
    pub(super) fn of(world: &World, dir: &Path, words: &[&str]) -> Self {
        let mut doctor = world.tunnel();
        doctor
            .env("TUNNEL_DIR", dir)
            .args(["doctor", "--json"])
            .args(words);
        Self(run(&mut doctor, CEILING))
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.report()))
    }

    #[track_caller]
    fn legs(&self) -> Vec<Value> {
        self.json()["legs"].as_array().unwrap().clone()
    }

    #[track_caller]
    pub(super) fn names(&self) -> Vec<String> {
        let legs = self.legs();
        let names = legs.iter().map(|leg| leg["leg"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }

    #[track_caller]
    pub(super) fn leg(&self, name: &str) -> Value {
        let mut legs = self.legs().into_iter();
        legs.find(|leg| leg["leg"] == name)
            .unwrap_or_else(|| panic!("no leg {name}: {}", self.report()))
    }

    #[track_caller]
    pub(super) fn found(&self, name: &str) -> String {
        self.leg(name)["found"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(super) fn is(&self, name: &str, verdict: &str) {
        assert_eq!(
            self.leg(name)["verdict"],
            verdict,
            "{name}: {}",
            self.report()
        );
    }

    #[track_caller]
    pub(super) fn result(&self) -> i64 {
        self.json()["result"].as_i64().unwrap()
    }

    pub(super) fn code(&self) -> Option<i32> {
        self.0.code
    }

    pub(super) fn report(&self) -> String {
        self.0.report()
    }

    /// The first leg that is wrong is this one, its remedy says so, and the exit code is its own.
    #[track_caller]
    pub(super) fn blames(&self, name: &str, remedy: &str, code: i32) {
        let legs = self.legs();
        let first = legs.iter().find(|leg| leg["verdict"] == "error");
        let first = first.unwrap_or_else(|| panic!("nothing is wrong: {}", self.report()));
        assert_eq!(first["leg"], name, "{}", self.report());
        self.hints(name, remedy);
        assert!(!self.found(name).is_empty(), "{}", self.report());
        let ended = (self.code(), self.result());
        assert_eq!(ended, (Some(code), 0), "{}", self.report());
    }

    /// Nothing is wrong, but of this leg there is something to be said.
    #[track_caller]
    pub(super) fn warns(&self, name: &str, remedy: &str) {
        self.is(name, "warning");
        self.hints(name, remedy);
        let ended = (self.code(), self.result());
        assert_eq!(ended, (Some(0), 1), "{}", self.report());
    }

    #[track_caller]
    pub(super) fn praises(&self) {
        let ended = (self.code(), self.result());
        assert_eq!(ended, (Some(0), 2), "{}", self.report());
    }

    #[track_caller]
    pub(super) fn hints(&self, name: &str, remedy: &str) {
        let leg = self.leg(name);
        let hint = leg["hint"].as_str().unwrap_or_default();
        assert!(
            hint.contains(remedy),
            "`{remedy}` in `{hint}`: {}",
            self.report()
        );
    }
}
