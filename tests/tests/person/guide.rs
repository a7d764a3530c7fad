//! `docs/connecting.md`, typed line by line.

use std::path::Path;

use e2e::{CEILING, Laptop, ReservedPort, Session, current_user};

use super::{line, write_config};
use crate::main_job::Job;

#[test]
fn every_line_of_the_guide_does_what_it_says() {
    let web = ReservedPort::take();
    let job = Job::with_services(&[("web", &web.address())]);
    let laptop = Laptop::new(&job.world, &job.controller);
    write_config(&laptop, "BatchMode yes\n");
    let there = job.world.path("there");
    std::fs::create_dir(&there).unwrap();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connecting.md");
    let guide = super::read(&guide);
    let typed: Vec<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("laptop$ "))
        .collect();
    assert!(typed.len() >= 10, "{typed:?}");
    let mut forwards = Vec::new();
    for words in typed {
        // The test's user, ports that are free here, and a folder that goes away.
        let here = words
            .replace("atlas@", &format!("{}@", current_user()))
            .replace("8123:", &format!("{}:", ReservedPort::take().number()))
            .replace("2222:", &format!("{}:", ReservedPort::take().number()))
            .replace(
                "atlas:data.csv",
                &format!("atlas:{}/data.csv", there.display()),
            )
            .replace(
                "atlas:again.csv",
                &format!("atlas:{}/again.csv", there.display()),
            );
        if here.starts_with("tunnel forward") {
            let forward = Session::start(&mut laptop.shell(&format!("exec {here}")));
            let said = forward.hear(CEILING).unwrap();
            assert!(said.starts_with("http://127.0.0.1:"), "{said}");
            assert!(
                said.ends_with(" leads to `web` of `333.hula.atlas`"),
                "{said}"
            );
            forwards.push(forward);
            continue;
        }
        let outcome = line(&laptop, &here).success();
        if words.contains("with options") {
            assert_eq!(outcome.stdout, "with options\n");
        }
    }
    assert_eq!(forwards.len(), 1);
    assert_eq!(super::read(&there.join("again.csv")), "17\n");
}
