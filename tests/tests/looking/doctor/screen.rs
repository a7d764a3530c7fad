//! The doctor on a screen, and into a file.

use crate::looking::list::shell;
use crate::main_job::Job;

#[test]
fn a_screen_has_ticks_and_colours_and_a_file_has_not() {
    let mut job = Job::start();
    let screen = shell(&job, (110, 50));
    screen.type_text("tunnel doctor 333; echo code $?");
    screen.press("Enter");
    let shown = screen.wait_for("code 0");
    assert!(
        shown.contains("✓ config") && shown.contains("✓ sshd"),
        "{shown}"
    );
    assert!(
        !shown.contains('…'),
        "what was looked at is written over: {shown}"
    );
    assert!(
        shown.contains("errors: 0, warnings: 0\n2\ncode 0"),
        "{shown}"
    );
    let painted = screen.painted();
    assert!(painted.contains("\u{1b}[32m✓"), "{painted}");

    let doctor = || job.world.run_as(&job.controller, &["doctor", "333"]);
    let text = doctor().success();
    assert_eq!(text.stdout.lines().last(), Some("2"), "{}", text.report());
    assert!(text.stdout.contains("✓ sshd"), "{}", text.stdout);
    assert!(!text.stdout.contains('\u{1b}'), "{}", text.stdout);

    job.serve.take().unwrap().kill();
    screen.type_text("clear; tunnel doctor; echo code $?");
    screen.press("Enter");
    let shown = screen.wait_for("code 69");
    assert!(
        shown.contains("✗ broker-tcp") && shown.contains("hint: check that it runs"),
        "{shown}"
    );
    assert!(shown.contains("– broker-mqtt"), "{shown}");
    assert!(shown.contains("\n0\ncode 69"), "{shown}");
    let painted = screen.painted();
    assert!(painted.contains("\u{1b}[31m✗"), "{painted}");
    let text = job.world.run_as(&job.controller, &["doctor"]);
    assert_eq!(text.stdout.lines().last(), Some("0"), "{}", text.report());
    assert!(!text.stdout.contains('\u{1b}'), "{}", text.stdout);
}
