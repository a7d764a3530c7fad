//! The pages that show it: `docs/conformance.md`, and the section of `docs/brokers.md` about the differences. Both are
//! made from the tables here, and a test fails while they say anything else; with `TUNNEL_BLESS=1` it writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::differences::DIFFERENCES;
use super::statements::{WITHOUT_CASE, all, covered};

#[test]
fn the_page_of_statements_is_up_to_date() {
    let mut text = STATEMENTS_HEAD.to_owned();
    let covered = covered();
    let excused: BTreeMap<_, _> = WITHOUT_CASE.iter().copied().collect();
    for statement in all() {
        let shown = match covered.get(&*statement) {
            Some(cases) => {
                let cases = cases
                    .iter()
                    .map(|(subject, name)| format!("{subject}: {name}"));
                cases.collect::<Vec<_>>().join("<br>")
            }
            None => format!("no case: {}", excused.get(&*statement).unwrap_or(&"")),
        };
        let _ = writeln!(text, "| MQTT-{statement} | {} |", cell(&shown));
    }
    check("docs/conformance.md", |_| text);
}

#[test]
fn the_section_of_differences_is_up_to_date() {
    let mut table = DIFFERENCES_HEAD.to_owned();
    for known in DIFFERENCES {
        let [case, ours, mosquitto, why] =
            [known.case, known.ours, known.mosquitto, known.why].map(cell);
        let _ = writeln!(table, "| {case} | {ours} | {mosquitto} | {why} |");
    }
    check("docs/brokers.md", |page| {
        let (before, rest) = page
            .split_once(SECTION)
            .expect("docs/brokers.md has the section");
        let after = rest.find("\n## ").map_or("", |end| &rest[end..]);
        format!("{before}{SECTION}\n\n{table}{after}")
    });
}

/// Whether a page is as it should be made from what it is.
#[track_caller]
fn check(page: &str, make: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let found = fs::read_to_string(&path).unwrap_or_default();
    let wanted = make(&found);
    if found != wanted && std::env::var_os("TUNNEL_BLESS").is_some() {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "{page} is not what the tables say; TUNNEL_BLESS=1 writes it anew"
    );
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const SECTION: &str = "## Where we differ from mosquitto";

const DIFFERENCES_HEAD: &str = "\
Both brokers are put through the same cases by `cargo nextest run -p e2e conformance`; what they were seen to do differs in these
and in no others. The test knows each of them by heart and fails when one appears or goes away. The cases, and the statements
of the standard to which they belong, are in [conformance.md](conformance.md).

| case | ours | mosquitto 2.0.11 | why |
|---|---|---|---|
";

const STATEMENTS_HEAD: &str = "\
# Conformance to MQTT 3.1.1

Every normative statement of the standard (OASIS, 29 October 2014, appendix B), and the cases in which our broker, as it is
built, and mosquitto are shown to do what it says. They are run by `cargo nextest run -p e2e conformance`, from
`tests/tests/broker/conformance/`. Where the two differ, or ours does not do what the standard says, is in
[brokers.md](brokers.md#where-we-differ-from-mosquitto).

| statement | shown by |
|---|---|
";
