//! Streams of a controller, and what is sent through them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::splice::{self, ChannelEnd, Ended, SpliceLimits};
use daemon::ssh_client::{Dialed, RequestError};
use russh::client::Msg;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::world::{LONG, World};

/// A stream whose near end is a pipe, as a controller's standard input and output would be.
pub(crate) struct Stream {
    pub(crate) pipe: DuplexStream,
    pub(crate) ended: JoinHandle<Ended>,
}

pub(crate) async fn open(
    controller: &Dialed,
    host: &str,
    port: u16,
) -> Result<Stream, RequestError> {
    let end = controller.open(host, port, LONG).await?;
    Ok(stream_of(end))
}

fn stream_of(end: ChannelEnd<Msg>) -> Stream {
    let (pipe, far) = duplex(64 * 1024);
    let tracker = TaskTracker::new();
    let ended = tracker.spawn(async move {
        let (mut read, mut write) = tokio::io::split(far);
        splice::local(end, &mut read, &mut write, SpliceLimits::default()).await
    });
    Stream { pipe, ended }
}

impl Stream {
    /// Sends a word and waits for it to come back. Returns how long that took.
    pub(crate) async fn ping(&mut self) -> Duration {
        let start = Instant::now();
        self.pipe.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        timeout(LONG, self.pipe.read_exact(&mut word))
            .await
            .expect("no answer")
            .unwrap();
        assert_eq!(&word, b"ping");
        start.elapsed()
    }
}

/// Sends until nothing more goes for a while: everything on the way is full. That is less than the cap of one connection and
/// what the kernel's sockets hold.
pub(crate) async fn fill(to: &mut (impl AsyncWriteExt + Unpin)) {
    let (mut sent, chunk) = (0_u64, vec![1; 64 * 1024]);
    while let Ok(written) = timeout(Duration::from_secs(1), to.write_all(&chunk)).await {
        written.unwrap();
        sent += chunk.len() as u64;
        assert!(sent < FULL, "nothing holds it back");
    }
    println!("full with {} KiB", sent / 1024);
}

/// A service that the first byte chooses: after `s` it sends so many bytes of the pattern, after `d` it never reads, and after
/// anything else it gives back what it gets.
pub(crate) struct Bulk {
    pub(crate) address: SocketAddr,
    begun: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Bulk {
    pub(crate) async fn start(world: &mut World, count: u64) -> Self {
        let (begun, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (streams, total) = (Arc::clone(&begun), Arc::clone(&written));
        let serve = move |mut socket: TcpStream| {
            let (streams, total) = (Arc::clone(&streams), Arc::clone(&total));
            async move {
                let mut wish = [0];
                if socket.read_exact(&mut wish).await.is_err() {
                    return;
                }
                match &wish {
                    b"s" => {
                        streams.fetch_add(1, Ordering::Relaxed);
                        send_counted(&mut socket, count, &total).await;
                    }
                    b"d" => std::future::pending().await,
                    _ => {
                        let (mut read, mut write) = socket.split();
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                    }
                }
            }
        };
        let address = world.service(serve).await;
        Self {
            address,
            begun,
            written,
        }
    }

    /// Waits until so many streams of it are full: nothing more goes in for a good while.
    pub(crate) async fn is_full(&self, streams: u64, most: u64) {
        let (start, mut before, mut still) = (Instant::now(), 0, 0);
        while self.begun.load(Ordering::Relaxed) < streams || still < 20 {
            assert!(start.elapsed() < LONG, "they are never full");
            sleep(Duration::from_millis(25)).await;
            let now = self.written.load(Ordering::Relaxed);
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        assert!(before < most, "nothing stands still: raise the amount");
    }
}

/// Waits for the end of a stream, of which both sides knew.
pub(crate) async fn ends_cleanly(ended: JoinHandle<Ended>) -> Ended {
    let ended = timeout(LONG, ended).await.expect("goes on").unwrap();
    assert!(ended.is_clean(), "{ended:?}");
    ended
}

/// Sends and receives at once, through a service that gives back what it gets.
pub(crate) async fn both_ways(stream: Stream, count: u64) {
    let (mut read, mut write) = tokio::io::split(stream.pipe);
    // 4 MiB/s: a debug build on a busy machine.
    let limit = LONG + Duration::from_secs(count / (4 * 1024 * 1024));
    timeout(limit, async {
        tokio::join!(send(&mut write, count), receive(&mut read, count))
    })
    .await
    .expect("stuck");
    let ended = ends_cleanly(stream.ended).await;
    assert_eq!((ended.up, ended.down), (count, count));
}

/// Bytes that do not repeat with the size of any buffer.
pub(crate) fn pattern(from: u64, buffer: &mut [u8]) {
    for (at, byte) in (from..).zip(buffer.iter_mut()) {
        *byte = (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).to_le_bytes()[0];
    }
}

/// Writes `count` bytes of the pattern, then the end of file.
pub(crate) async fn send(writer: &mut (impl AsyncWriteExt + Unpin), count: u64) {
    send_counted(writer, count, &AtomicU64::new(0)).await;
}

/// As [`send`], and adds what was written as it goes.
pub(crate) async fn send_counted(
    writer: &mut (impl AsyncWriteExt + Unpin),
    count: u64,
    written: &AtomicU64,
) {
    let (mut sent, mut buffer) = (0, vec![0; 64 * 1024]);
    while sent < count {
        let size = usize::try_from((count - sent).min(65_536)).unwrap();
        pattern(sent, &mut buffer[..size]);
        writer.write_all(&buffer[..size]).await.unwrap();
        sent += size as u64;
        written.fetch_add(size as u64, Ordering::Relaxed);
    }
    writer.shutdown().await.unwrap();
}

/// Reads up to the end of file, and checks that it was `count` bytes of the pattern.
pub(crate) async fn receive(reader: &mut (impl AsyncReadExt + Unpin), count: u64) {
    let (mut got, mut buffer, mut expected) = (0, vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let size = reader.read(&mut buffer).await.unwrap();
        if size == 0 {
            break;
        }
        pattern(got, &mut expected[..size]);
        assert!(
            buffer[..size] == expected[..size],
            "wrong bytes after {got}"
        );
        got += size as u64;
    }
    assert_eq!(got, count, "bytes until the end of file");
}

/// More than a connection's cap with the kernel's buffers on the way, in bytes.
const FULL: u64 = daemon::flow::HARD_CAP as u64 + 32 * 1024 * 1024;
