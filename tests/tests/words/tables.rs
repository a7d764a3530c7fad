//! Tables, and what stands in their place when there is nothing to show.

use e2e::World;

use super::book::Book;
use super::errors::settings;
use crate::main_job::Job;

#[test]
fn every_table() {
    let world = World::new();
    let mut book = Book::of(&world);
    let at = |words: &[&str]| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(world.realm());
        command
    };
    book.type_in(&mut at(&["signer", "list"]));
    book.type_in(&mut at(&["registry", "list"]));
    let serve = world.serve();
    let controller = world.enroll("hula", "controller-a");
    book.type_in(&mut world.tunnel_as(&controller, &["list"]));
    let text = book.text();
    let job = Job::around(world, Some(serve), &[]);
    let mut book = Book::of(&job.world);
    let world = &job.world;
    let at = |words: &[&str]| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(world.realm());
        command
    };
    world.run_signer(&["revoke", "controller-a.hula.atlas"]);
    for words in [
        &["signer", "list"][..],
        &["registry", "list"],
        &["proxy", "host-key"],
    ] {
        book.type_in(&mut at(words));
    }
    let second = world.enroll("hula", "controller-b");
    book.type_in(&mut world.tunnel_as(&second, &["list"]));
    settings().bind(|| insta::assert_snapshot!("every-table", text + &book.text()));
}
