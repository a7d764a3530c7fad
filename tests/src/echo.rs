//! Services for a tunnel to lead to.

use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// A TCP service on loopback that sends back what it receives, and ends a stream when the peer does.
#[derive(Debug)]
pub struct EchoServer {
    port: u16,
}

impl EchoServer {
    /// Starts it; it runs until the test process ends.
    ///
    /// # Panics
    /// When no port can be had.
    #[track_caller]
    pub fn start() -> Self {
        let port = serve(|stream| {
            let (mut reader, mut writer) = (&stream, &stream);
            // A peer that goes away in the middle is the test's business, not the echo's.
            let _ = copy(&mut reader, &mut writer);
            let _ = stream.shutdown(Shutdown::Write);
        });
        Self { port }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A TCP service on loopback that accepts and then neither reads nor writes.
#[derive(Debug)]
pub struct SilentServer {
    port: u16,
}

impl SilentServer {
    /// Starts it; it runs until the test process ends.
    ///
    /// # Panics
    /// When no port can be had.
    #[track_caller]
    pub fn start() -> Self {
        let held = Arc::new(Mutex::new(Vec::new()));
        let port = serve(move |stream| held.lock().expect("no holder panics").push(stream));
        Self { port }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A TCP service on loopback whose queue is full: who connects to it is neither let in nor refused.
#[derive(Debug)]
pub struct CrowdedServer {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl CrowdedServer {
    /// Fills the queue; it stays so until this is dropped.
    ///
    /// # Panics
    /// When no port can be had, or the queue has no end.
    #[track_caller]
    pub fn start() -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        rustix::net::listen(&listener, 0).expect("a queue can be made shorter");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, FULL) {
            queue.push(stream);
            assert!(queue.len() < 10, "a queue of none takes all of these");
        }
        Self {
            listener,
            _queue: queue,
        }
    }

    /// `127.0.0.1:PORT`
    ///
    /// # Panics
    /// When the system has lost it.
    pub fn address(&self) -> String {
        let address = self.listener.local_addr();
        address.expect("a bound socket has an address").to_string()
    }
}

/// Who is not let in by then waits for room.
const FULL: Duration = Duration::from_millis(500);

fn serve(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let handle = handle.clone();
            thread::spawn(move || handle(stream));
        }
    });
    port
}
