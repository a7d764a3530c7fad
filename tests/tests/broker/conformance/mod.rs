//! Conformance to MQTT 3.1.1, statement by statement, of our broker and of mosquitto in the same cases.
//!
//! A case says what is done, to which numbered statements it belongs, and what these let a broker do ([`case`]). What a
//! broker was seen to do has to be one of that, and the same for both brokers, or the case is in the list of
//! [`differences`] with exactly what each of them does. So a difference that appears fails, and so does one that vanishes.
//! [`statements`] is the standard's own list; nothing of it is left without a case or a reason.

mod case;
mod cases;
mod differences;
mod page;
mod stage;
mod statements;

use std::fmt::Write as _;
use std::process::Command;

use e2e::{CEILING, run, tool};

use case::Case;
use differences::{DIFFERENCES, Difference};
use stage::{Kind, Stage};

#[test]
fn connecting() {
    compare(cases::connecting::CASES);
}

#[test]
fn sessions() {
    compare(cases::sessions::CASES);
}

#[test]
fn wills() {
    compare(cases::wills::CASES);
}

#[test]
fn publishing() {
    compare(cases::publishing::CASES);
}

#[test]
fn subscribing() {
    compare(cases::subscribing::CASES);
}

#[test]
fn topics() {
    compare(cases::topics::CASES);
}

#[test]
fn violations() {
    compare(cases::violations::CASES);
}

/// Runs the cases with both brokers.
#[track_caller]
fn compare(cases: &[Case]) {
    let [ours, mosquitto] = [Kind::Embedded, Kind::Mosquitto].map(|kind| {
        let stage = Stage::start(kind);
        let seen = cases.iter().map(|case| case.run(&stage));
        seen.collect::<Vec<_>>()
    });
    let wrong: Vec<_> = cases
        .iter()
        .zip(ours.iter().zip(&mosquitto))
        .filter_map(|(case, (ours, mosquitto))| verdict(case, ours, mosquitto).err())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}, beside {}:\n\n{}",
        wrong.len(),
        cases.len(),
        mosquitto_version(),
        wrong.join("\n")
    );
}

/// Its differences are of one version; another one may have others.
#[track_caller]
fn mosquitto_version() -> String {
    let help = run(Command::new(tool("mosquitto")).arg("-h"), CEILING);
    help.stdout.lines().next().unwrap_or_default().to_owned()
}

/// Whether what was seen is what the standard or the list of differences says.
fn verdict(case: &Case, ours: &str, mosquitto: &str) -> Result<(), String> {
    let expected = match difference(case) {
        Some(known) => known.ours == ours && known.mosquitto == mosquitto,
        None => ours == mosquitto && case.standard.contains(&ours),
    };
    if expected {
        return Ok(());
    }
    let (name, covers, standard) = (
        case.name,
        case.covers.join(", "),
        case.standard.join("` or `"),
    );
    let mut text = format!(
        "{name} ({covers})\n  standard:  `{standard}`\n  ours:      `{ours}`\n  mosquitto: `{mosquitto}`\n"
    );
    if let Some(known) = difference(case) {
        let (ours, mosquitto) = (known.ours, known.mosquitto);
        let _ = writeln!(text, "  listed as: `{ours}` and `{mosquitto}`");
    }
    Err(text)
}

fn difference(case: &Case) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|known| known.case == case.name)
}

#[test]
fn the_differences_are_of_cases_and_are_differences() {
    for known in DIFFERENCES {
        let case = cases::SUBJECTS
            .iter()
            .flat_map(|(_, cases)| *cases)
            .find(|case| case.name == known.case)
            .unwrap_or_else(|| panic!("no case is called `{}`", known.case));
        assert!(
            known.ours != known.mosquitto || !case.standard.contains(&known.ours),
            "`{}` is no difference",
            known.case
        );
        assert!(!known.why.is_empty());
    }
}
