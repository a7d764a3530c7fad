//! Bytes through a tunnel: the service at its far end, and what is asked of it through one stream.

use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::Stopwatch;

/// The near end of one stream.
pub(crate) struct Stream {
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
    child: Option<Child>,
}

/// Which way the bytes go: from the service, or to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Down,
    Up,
}

impl Stream {
    /// A stream that is a command's standard input and output.
    pub(crate) fn through(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(writer), Some(reader)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("a command without pipes"));
        };
        Ok(Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            child: Some(child),
        })
    }

    /// A stream that a local forward takes at this port.
    pub(crate) fn at(port: u16) -> Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(STALLED))?;
        Ok(Self {
            reader: Box::new(socket.try_clone()?),
            writer: Box::new(socket),
            child: None,
        })
    }

    /// The process that the stream goes through, if it has one of its own.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// One byte there and back, in milliseconds.
    pub(crate) fn ping(&mut self) -> Result<f64> {
        let watch = Stopwatch::start();
        self.writer.write_all(&[PING])?;
        self.writer.flush()?;
        self.reader.read_exact(&mut [0])?;
        Ok(watch.elapsed_ms())
    }

    /// Has the service send as much as the way takes, and reads none of it.
    pub(crate) fn stall(&mut self) -> Result<()> {
        self.demand(DOWN, u64::MAX)
    }

    fn demand(&mut self, word: u8, bytes: u64) -> Result<()> {
        self.writer.write_all(&[word])?;
        self.writer.write_all(&bytes.to_be_bytes())?;
        self.writer.flush()
    }

    /// So many bytes in one direction, until the last has arrived.
    pub(crate) fn send(&mut self, direction: Direction, bytes: u64) -> Result<()> {
        let word = match direction {
            Direction::Down => DOWN,
            Direction::Up => UP,
        };
        self.demand(word, bytes)?;
        match direction {
            Direction::Down => read(&mut self.reader, bytes),
            Direction::Up => {
                write(&mut self.writer, bytes)?;
                self.reader.read_exact(&mut [0])
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts the service on loopback, for as long as this process runs, and returns its address.
pub(crate) fn serve() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            // It ends when its stream does.
            thread::spawn(move || answer(socket));
        }
    });
    Ok(address)
}

fn answer(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    loop {
        let mut word = [0];
        socket.read_exact(&mut word)?;
        if word == [PING] {
            socket.write_all(&word)?;
            continue;
        }
        let mut bytes = [0; 8];
        socket.read_exact(&mut bytes)?;
        let bytes = u64::from_be_bytes(bytes);
        if word == [DOWN] {
            write(&mut socket, bytes)?;
        } else {
            read(&mut socket, bytes)?;
            socket.write_all(&word)?;
        }
    }
}

fn write(to: &mut impl Write, mut bytes: u64) -> Result<()> {
    let block = vec![0x5a; BLOCK];
    while bytes > 0 {
        let length = usize::try_from(bytes).unwrap_or(BLOCK).min(BLOCK);
        to.write_all(block.get(..length).unwrap_or_default())?;
        bytes -= length as u64;
    }
    to.flush()
}

fn read(from: &mut impl Read, mut bytes: u64) -> Result<()> {
    let mut block = vec![0; BLOCK];
    while bytes > 0 {
        let most = usize::try_from(bytes).unwrap_or(BLOCK).min(BLOCK);
        let length = from.read(block.get_mut(..most).unwrap_or_default())?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes -= length as u64;
    }
    Ok(())
}

/// One byte, to be sent back.
const PING: u8 = b'p';
/// So many bytes are wanted.
const DOWN: u8 = b'd';
/// So many bytes follow; one comes back when they are all there.
const UP: u8 = b'u';

/// Bytes of one read or write: what a pipe holds.
const BLOCK: usize = 64 * 1024;

/// How long a stream may say nothing before the bench gives up.
const STALLED: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_both_ways_and_a_ping_comes_back() {
        let address = serve().unwrap();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut stream = Stream::at(port).unwrap();
        for bytes in [1, 65_536, 200_001] {
            stream.send(Direction::Down, bytes).unwrap();
            stream.send(Direction::Up, bytes).unwrap();
            assert!(stream.ping().unwrap() > 0.0);
        }
    }
}
