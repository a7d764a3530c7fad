//! A daemon that is asked how it does, by curl and promtool.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{CEILING, Daemon, Outcome, World, run, tool, wait_until};

/// Asks a daemon.
pub(crate) struct Monitored {
    address: String,
}

impl Monitored {
    /// Where a daemon says that it answers.
    #[track_caller]
    pub(crate) fn of(daemon: &mut Daemon) -> Self {
        let line = daemon.wait_for_line("metrics listening on ");
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { address }
    }

    /// A whole realm in one process, which can be asked.
    #[track_caller]
    pub(crate) fn realm(world: &World) -> (Daemon, Self) {
        set(
            &world.realm().join("server.toml"),
            "metrics = \"127.0.0.1:0\"",
        );
        let mut serve = world.serve();
        let realm = Self::of(&mut serve);
        // Not all parts have their numbers before.
        realm.wait_for_ready(200);
        (serve, realm)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The status and the body of an answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let outcome = self
            .curl(&["--write-out", "\n%{http_code}"], path)
            .success();
        let (body, status) = outcome.stdout.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// curl with more options.
    #[track_caller]
    pub(crate) fn curl(&self, options: &[&str], path: &str) -> Outcome {
        let mut curl = Command::new(tool("curl"));
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ]);
        curl.args(options);
        run(curl.arg(format!("http://{}{path}", self.address)), CEILING)
    }

    /// The page of numbers, after promtool has found nothing wrong with it.
    #[track_caller]
    pub(crate) fn page(&self, folder: &Path) -> String {
        let (status, page) = self.get("/metrics");
        assert_eq!(status, 200, "{page}");
        let file = folder.join("page");
        fs::write(&file, &page).unwrap();
        let mut check = Command::new(tool("promtool"));
        check.args(["check", "metrics"]);
        check.stdin(Stdio::from(fs::File::open(&file).unwrap()));
        let output = check.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
        page
    }

    /// A number of the page, by its name and labels as they stand there.
    pub(crate) fn number(&self, name: &str) -> Result<f64, String> {
        let (_, page) = self.get("/metrics");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).ok_or(page)
    }

    /// Waits until a number is this.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, wanted: f64) {
        wait_until(&format!("{name} to be {wanted}"), CEILING, || {
            let number = self.number(name)?;
            if (number - wanted).abs() < 0.5 {
                Ok(())
            } else {
                Err(number.to_string())
            }
        });
    }

    /// Waits until `/readyz` has this status; returns what it says.
    #[track_caller]
    pub(crate) fn wait_for_ready(&self, wanted: u16) -> String {
        wait_until(&format!("/readyz to be {wanted}"), CEILING, || {
            let (status, said) = self.get("/readyz");
            if status == wanted {
                Ok(said)
            } else {
                Err(format!("{status} {said}"))
            }
        })
    }
}

/// Puts a line at the top of a file of settings.
#[track_caller]
pub(crate) fn set(file: &Path, line: &str) {
    let text = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{line}\n{text}")).unwrap();
}
