//! Sessions with a terminal, as a person sees them.

use std::process::Stdio;

use e2e::{CEILING, Screen, Session, wait_until};

use super::{House, running};

#[test]
fn a_terminal_has_the_size_of_its_window_and_follows_it() {
    let house = House::start();
    let mut ssh = house.stock("ssh");
    ssh.args(["-t", "333", "exec sh"]).env("TERM", "xterm");
    let screen = Screen::start(&house.world, "resize", (91, 31), &ssh);
    screen.type_text("PS1='READY> '");
    screen.press("Enter");
    screen.wait_until("the prompt", |shown| shown.trim_end().ends_with("READY>"));
    let ask = |size: &str| {
        screen.type_text("stty size; tty; echo $TERM");
        screen.press("Enter");
        let shown = screen.wait_for(&format!("\n{size}\n"));
        assert!(shown.contains("/dev/pts/"), "{shown}");
    };
    ask("31 91");
    screen.resize(120, 40);
    ask("40 120");
    // Ctrl-C ends what runs, and not the session.
    screen.type_text("sleep 6011; echo code $?");
    screen.press("Enter");
    let sleeps = |sleeps: bool| {
        wait_until("what runs in the terminal", CEILING, || {
            let found = running("sleep 6011");
            let is_there = found
                .iter()
                .any(|line| line.trim_end().ends_with(" sleep 6011"));
            (is_there == sleeps)
                .then_some(())
                .ok_or(format!("{found:?}"))
        });
    };
    sleeps(true);
    screen.press("C-c");
    sleeps(false);
    screen.wait_until("the prompt again", |shown| {
        shown.trim_end().ends_with("READY>")
    });
    screen.type_text("exit 9");
    screen.press("Enter");
    assert_eq!(screen.wait(), 9);
}

#[test]
fn connect_gives_a_login_shell_at_a_terminal() {
    let house = House::start();
    let whom = format!("{}@333", e2e::current_user());
    let connect = house
        .world
        .tunnel_as(&house.controller, &["connect", &whom]);
    let screen = Screen::start(&house.world, "login", (100, 30), &connect);
    // Whatever its prompt is.
    screen.type_text("echo \"login $0 on $SSH_TTY\"");
    screen.press("Enter");
    let shown = screen.wait_until("a login shell", |shown| shown.contains("\nlogin -"));
    assert!(shown.contains(" on /dev/pts/"), "{shown}");
    screen.type_text("exit 5");
    screen.press("Enter");
    assert_eq!(screen.wait(), 5);
}

#[test]
fn a_terminal_takes_what_is_typed_while_it_writes_for_ever() {
    let house = House::start();
    let mut ssh = house.stock("ssh");
    ssh.args(["-tt", "333", "yes is it on"])
        .stderr(Stdio::null());
    let screen = Screen::start(&house.world, "yes", (80, 24), &ssh);
    screen.wait_for("is it on");
    screen.press("C-c");
    // `yes` is ended by the signal.
    assert_eq!(screen.wait(), 255);
    let mut session = Session::start(&mut house.ssh("cat"));
    session.echo("others are served");
}
