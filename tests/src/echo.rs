//! Services for a tunnel to lead to.

use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

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
