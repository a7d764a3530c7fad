//! Streams through one way to a service: pings, bytes a second, and the processor time that they cost.

use std::thread;
use std::time::Duration;

use e2e::Stopwatch;

use crate::bench_proxy_stream::{Direction, Stream};
use crate::float::as_f64;
use crate::percentile::Samples;

/// The streams of one way, and their figures.
pub(crate) struct Way {
    streams: Vec<Stream>,
    pub(crate) ping_p50: Samples,
    pub(crate) ping_p99: Samples,
    pub(crate) down: Bulk,
    pub(crate) up: Bulk,
    pub(crate) downs: Bulk,
    pub(crate) ups: Bulk,
}

/// What goes through in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) pings: usize,
    /// Bytes through one stream, and through each of several.
    pub(crate) one: u64,
    pub(crate) each: u64,
}

/// Bytes in one direction.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    /// MB/s.
    pub(crate) rate: Samples,
    /// Seconds of processor time per GB.
    pub(crate) cost: Samples,
}

impl Way {
    pub(crate) fn open(
        mut stream: impl FnMut() -> std::io::Result<Stream>,
    ) -> std::io::Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..SEVERAL {
            let mut opened = stream()?;
            // The first byte comes when the tunnel is there.
            opened.ping()?;
            streams.push(opened);
        }
        Ok(Self {
            streams,
            ping_p50: Samples::default(),
            ping_p99: Samples::default(),
            down: Bulk::default(),
            up: Bulk::default(),
            downs: Bulk::default(),
            ups: Bulk::default(),
        })
    }

    /// Pings, then bytes each way through one of the streams and through all; `cpu` tells the processor time so far of the
    /// processes with these numbers, and of whatever else serves the streams.
    pub(crate) fn round(
        &mut self,
        load: &Load,
        cpu: impl Fn(&[u32]) -> Duration,
    ) -> std::io::Result<()> {
        let pids: Vec<u32> = self.streams.iter().filter_map(Stream::pid).collect();
        let cpu = || cpu(&pids);
        let pings = self.pings(load.pings)?;
        self.ping_p50.push(pings.p50());
        self.ping_p99.push(pings.p99());
        let (alone, _) = self.streams.split_at_mut(1);
        self.down.add(alone, Direction::Down, load.one, cpu)?;
        self.up.add(alone, Direction::Up, load.one, cpu)?;
        let all = self.streams.as_mut_slice();
        self.downs.add(all, Direction::Down, load.each, cpu)?;
        self.ups.add(all, Direction::Up, load.each, cpu)
    }
}

impl Way {
    /// Pings through one of the streams, in milliseconds.
    pub(crate) fn pings(&mut self, count: usize) -> std::io::Result<Samples> {
        let mut pings = Samples::default();
        if let Some(stream) = self.streams.first_mut() {
            for _ in 0..count {
                pings.push(stream.ping()?);
            }
        }
        Ok(pings)
    }
}

impl Bulk {
    /// So many bytes through each of the streams at once.
    fn add(
        &mut self,
        streams: &mut [Stream],
        direction: Direction,
        bytes: u64,
        cpu: impl Fn() -> Duration,
    ) -> std::io::Result<()> {
        let total = as_f64(bytes * streams.len() as u64);
        let (watch, before) = (Stopwatch::start(), cpu());
        thread::scope(|scope| {
            let each = streams.iter_mut();
            let sending: Vec<_> = each
                .map(|stream| scope.spawn(move || stream.send(direction, bytes)))
                .collect();
            sending.into_iter().try_for_each(|sent| {
                let panicked = |_| Err(std::io::Error::other("a stream's thread panicked"));
                sent.join().unwrap_or_else(panicked)
            })
        })?;
        self.rate.push(total / MB / watch.elapsed().as_secs_f64());
        let used = cpu().saturating_sub(before);
        self.cost.push(used.as_secs_f64() / (total / GB));
        Ok(())
    }
}

const MB: f64 = 1e6;
const GB: f64 = 1e9;

/// Streams beside each other.
const SEVERAL: usize = 8;
