//! `ssh -L`, `-R` and `-D`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use e2e::{CEILING, EchoServer, ReservedPort, is_listening, run, tool, wait_until};

use super::House;

/// An ssh that forwards, until it is dropped.
struct Forwarding(Child);

impl Forwarding {
    #[track_caller]
    fn start(house: &House, options: &[&str], listens: u16) -> Self {
        let mut ssh = house.stock("ssh");
        ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"])
            .args(options)
            .arg("333");
        let ssh = ssh.stdin(Stdio::null()).spawn().unwrap();
        let forwarding = Self(ssh);
        wait_until("the port", CEILING, || {
            is_listening(listens).then_some(()).ok_or(String::new())
        });
        forwarding
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What comes back for what is sent, to the end of both.
#[track_caller]
fn echoed(port: u16, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(CEILING)).unwrap();
    stream.write_all(sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got
}

#[test]
fn a_local_port_leads_to_a_service_of_the_remote_computer() {
    let house = House::start();
    let (echo, port) = (EchoServer::start(), ReservedPort::take());
    let forward = format!("{}:{}", port.number(), echo.address());
    let _ssh = Forwarding::start(&house, &["-L", &forward], port.number());
    assert_eq!(echoed(port.number(), b"one"), b"one");
    let many: Vec<_> = (0..30_u8)
        .map(|number| {
            let port = port.number();
            std::thread::spawn(move || echoed(port, &[number; 5000]) == [number; 5000])
        })
        .collect();
    assert!(many.into_iter().all(|one| one.join().unwrap()));
}

#[test]
fn only_loopback_can_be_reached_unless_it_is_said_otherwise() {
    let echo = EchoServer::start();
    let port_of = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    for (settings, refused) in [
        ("", true),
        ("forwarding = \"anywhere\"", false),
        ("forwarding = \"none\"", true),
    ] {
        let house = House::with(settings);
        let sent = house.path("sent");
        std::fs::write(&sent, "hello\n").unwrap();
        let mut ssh = house.stock("ssh");
        // Another name of the same place, which is none of loopback's.
        ssh.args([
            "-W",
            &format!("0.0.0.0:{}", port_of(&echo.address())),
            "333",
        ]);
        let outcome = house.world.run_from(&mut ssh, &sent, CEILING);
        if refused {
            assert_eq!(outcome.code, Some(255), "{settings}: {}", outcome.report());
            let words = &outcome.stderr;
            assert!(
                words.contains("administratively prohibited")
                    || words.contains("forwarding failed"),
                "{words}"
            );
        } else {
            assert_eq!(outcome.success().stdout, "hello\n", "{settings}");
        }
        if settings.contains("none") {
            let mut ssh = house.stock("ssh");
            let remote = format!("0:{}", echo.address());
            ssh.args([
                "-o",
                "ExitOnForwardFailure=yes",
                "-R",
                &remote,
                "333",
                "true",
            ]);
            let outcome = run(&mut ssh, CEILING);
            assert_eq!(outcome.code, Some(255), "{}", outcome.report());
        }
    }
}

#[test]
fn a_port_of_the_remote_computer_leads_back_and_listens_on_loopback_alone() {
    let house = House::start();
    let (echo, port) = (EchoServer::start(), ReservedPort::take());
    let forward = format!("*:{}:{}", port.number(), echo.address());
    let ssh = Forwarding::start(&house, &["-R", &forward], port.number());
    assert_eq!(echoed(port.number(), b"back"), b"back");
    let mut ss = Command::new(tool("ss"));
    ss.args(["-ltnH", &format!("sport = :{}", port.number())]);
    let listening = run(&mut ss, CEILING).success().stdout;
    assert!(listening.contains("127.0.0.1:"), "{listening}");
    assert_eq!(listening.lines().count(), 1, "{listening}");
    drop(ssh);
    wait_until("the port to be closed", CEILING, || {
        (!is_listening(port.number()))
            .then_some(())
            .ok_or(String::new())
    });
    // Any port, which is told.
    let mut any = house.stock("ssh");
    any.args([
        "-o",
        "LogLevel=INFO",
        "-R",
        &format!("0:{}", echo.address()),
        "333",
        "true",
    ]);
    let outcome = run(&mut any, CEILING).success();
    assert!(
        outcome.stderr.contains("Allocated port "),
        "{}",
        outcome.report()
    );
}

#[test]
fn a_browser_behind_a_dynamic_forward_reaches_a_web_server() {
    let house = House::start();
    let (web, socks) = (ReservedPort::take(), ReservedPort::take());
    let page = house.path("page.txt");
    std::fs::write(&page, "the page\n").unwrap();
    let mut server = Command::new(tool("python3"));
    server
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(house.world.folder())
        .arg(web.number().to_string());
    let _server = house.world.daemon("web", &mut server);
    wait_until("the web server", CEILING, || {
        is_listening(web.number())
            .then_some(())
            .ok_or(String::new())
    });
    let _ssh = Forwarding::start(&house, &["-D", &socks.number().to_string()], socks.number());
    let mut curl = Command::new(tool("curl"));
    curl.args([
        "-sS",
        "--socks5-hostname",
        &format!("127.0.0.1:{}", socks.number()),
    ])
    .arg(format!("http://localhost:{}/page.txt", web.number()));
    assert_eq!(run(&mut curl, CEILING).success().stdout, "the page\n");
}
