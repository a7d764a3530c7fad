//! Who asks a monitor in ways that it is not meant for.

use std::io::{Read, Write};
use std::net::TcpStream;

use e2e::{CEILING, World, descriptors, wait_until};

use super::monitored::Monitored;

#[test]
fn slow_and_large_and_strange_requests_hold_nobody_up() {
    let world = World::new();
    let (serve, realm) = Monitored::realm(&world);
    realm.wait_for_ready(200);
    let quiet = descriptors(serve.pid());
    let connect = || {
        let stream = TcpStream::connect(realm.address()).unwrap();
        stream.set_read_timeout(Some(CEILING)).unwrap();
        stream
    };
    // Each sends a line now and then, and never an end.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    for stream in &mut slow {
        // Those that others have pushed out are closed.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n");
    }
    // One after another, sixteen at a time for five seconds each, they would take a minute, for which curl does not wait.
    assert_eq!(realm.get("/healthz").0, 200);
    // The last of them has its time, and no more.
    let mut rest = Vec::new();
    let last = slow.last_mut().unwrap();
    let _ = last.read_to_end(&mut rest);
    assert_eq!(String::from_utf8_lossy(&rest), "");
    drop(slow);
    let mut large = connect();
    let _ = large.write_all(&[b"GET / HTTP/1.1\r\nA: ", vec![b'a'; 20_000].as_slice()].concat());
    assert!(answer(large).starts_with("HTTP/1.1 431 "));
    let mut strange = connect();
    strange.write_all(&[0, 255, 13, 10, 13, 10]).unwrap();
    assert!(answer(strange).starts_with("HTTP/1.1 400 "));
    let posted = realm
        .curl(&["--data", "x=y", "--include"], "/metrics")
        .success();
    assert!(
        posted.stdout.starts_with("HTTP/1.1 405 "),
        "{}",
        posted.stdout
    );
    assert!(
        posted.stdout.contains("Allow: GET, HEAD"),
        "{}",
        posted.stdout
    );
    let head = realm.curl(&["--head"], "/healthz").success();
    assert!(head.stdout.starts_with("HTTP/1.1 200 "), "{}", head.stdout);
    assert_eq!(realm.get("/etc/passwd").0, 404);
    wait_until("its sockets to be closed", CEILING, || {
        let now = descriptors(serve.pid());
        if now <= quiet + 2 {
            Ok(())
        } else {
            Err(format!("{quiet} → {now}"))
        }
    });
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
