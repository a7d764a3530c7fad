//! A TCP relay that makes loopback far away: every byte takes half a round trip, each way, and bandwidth is not limited.
//!
//! A connection through it costs what one over a real line costs: the request for it takes half a round trip, the answer
//! another half, and only then can the client's first byte set out. A relay that accepts at once would give that away, so
//! it holds what the client says too early until the answer could have been there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Stopwatch;

/// A relay on a port of its own, until it is dropped. Connections that are open then end by themselves.
#[derive(Debug)]
pub struct DelayRelay {
    port: u16,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl DelayRelay {
    /// Leads to a port of 127.0.0.1, `rtt` away. `Err` when no port is free.
    pub fn start(to: u16, rtt: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            for client in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(client) = client {
                    thread::spawn(move || relay(client, to, rtt));
                }
            }
        });
        Ok(Self {
            port,
            stop,
            accepting: Some(accepting),
        })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for DelayRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It sees the order to stop when it has accepted once more.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// What was read, and when it is to be written, in the time of the connection's stopwatch.
type Piece = (Duration, Vec<u8>);

fn relay(client: TcpStream, to: u16, rtt: Duration) {
    let clock = Stopwatch::start();
    let half = rtt / 2;
    // What the client says sets out when it could have had the answer to its request, and arrives half a trip later:
    // until then the server has not accepted the connection either.
    let (up, up_queue) = sync_channel(QUEUE);
    let Ok(reader) = client.try_clone() else {
        return;
    };
    thread::spawn(move || read(reader, clock, rtt, half, &up));
    wait_for(clock, rtt + half);
    let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, to))) else {
        let _ = client.shutdown(Shutdown::Both);
        return;
    };
    let (down, down_queue) = sync_channel(QUEUE);
    let Ok(reader) = server.try_clone() else {
        return;
    };
    thread::spawn(move || read(reader, clock, Duration::ZERO, half, &down));
    thread::spawn(move || write(client, clock, &down_queue));
    write(server, clock, &up_queue);
}

fn read(
    mut from: TcpStream,
    clock: Stopwatch,
    earliest: Duration,
    delay: Duration,
    queue: &SyncSender<Piece>,
) {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(count) if count > 0 => {
                let due = clock.elapsed().max(earliest) + delay;
                let piece = buffer.get(..count).unwrap_or_default().to_vec();
                if queue.send((due, piece)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => {
                // The end takes as long as any byte: an empty piece stands for it.
                let due = clock.elapsed().max(earliest) + delay;
                let _ = queue.send((due, Vec::new()));
                return;
            }
        }
    }
}

fn write(mut to: TcpStream, clock: Stopwatch, queue: &Receiver<Piece>) {
    let _ = to.set_nodelay(true);
    while let Ok((due, piece)) = queue.recv() {
        wait_for(clock, due);
        if piece.is_empty() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if to.write_all(&piece).is_err() {
            // The other side hears of it as it would over a line.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, whose whole purpose is to be late"
)]
fn wait_for(clock: Stopwatch, due: Duration) {
    thread::sleep(due.saturating_sub(clock.elapsed()));
}

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Pieces that are on their way at once: 64 MiB, more than any line of the bench holds.
const QUEUE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);

    /// A server that answers each byte with the same byte.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut writer = client.try_clone().unwrap();
                    let _ = std::io::copy(&mut client, &mut writer);
                    let _ = writer.shutdown(Shutdown::Write);
                });
            }
        });
        port
    }

    #[test]
    fn a_connection_costs_one_round_trip_and_an_answer_another() {
        let relay = DelayRelay::start(echo(), RTT).unwrap();
        let watch = Stopwatch::start();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        let mut answer = [0];
        client.write_all(b"x").unwrap();
        client.read_exact(&mut answer).unwrap();
        let first = watch.elapsed();
        client.write_all(b"y").unwrap();
        client.read_exact(&mut answer).unwrap();
        let second = watch.elapsed().saturating_sub(first);
        assert_eq!(&answer, b"y");
        assert!(first >= 2 * RTT, "{first:?}");
        assert!(second >= RTT, "{second:?}");
    }

    #[test]
    fn every_byte_arrives_and_then_the_end() {
        let relay = DelayRelay::start(echo(), RTT).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port())).unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut writer = client.try_clone().unwrap();
        let copy = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == sent);
    }
}
