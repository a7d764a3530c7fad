//! The load client: thousands of MQTT sessions over TLS in one process, as light as can be.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bench_broker_fleet::{CONTROLLER, Fleet, SYSTEM, client_id, name};
use crate::float::as_f64;

/// All sessions with one broker.
pub(crate) struct Sessions {
    port: u16,
    fleet: Arc<Fleet>,
    tasks: JoinSet<()>,
    devices: Vec<Option<Device>>,
}

/// A connected device.
struct Device {
    say: mpsc::Sender<Vec<u8>>,
    task: AbortHandle,
}

/// What the controller has heard: topic and payload.
pub(crate) type Heard = mpsc::Receiver<(String, Vec<u8>)>;

impl Sessions {
    pub(crate) fn new(port: u16, fleet: Arc<Fleet>) -> Self {
        let devices = (0..fleet.len()).map(|_| None).collect();
        Self {
            port,
            fleet,
            tasks: JoinSet::new(),
            devices,
        }
    }

    /// Connects these devices, each with a will, one subscription and a retained presence that is acknowledged. At most
    /// [`AT_ONCE`] at a time; each begins within `spread`, evenly, and tries until it succeeds. How many tries failed.
    pub(crate) async fn connect(
        &mut self,
        which: std::ops::Range<usize>,
        spread: Duration,
        round: u32,
    ) -> usize {
        let doorway = Arc::new(Semaphore::new(AT_ONCE));
        let (count, port) = (which.len().max(1), self.port);
        let mut connecting = JoinSet::new();
        for (place, index) in which.enumerate() {
            let Some(tls) = self.fleet.device(index) else {
                continue;
            };
            let doorway = Arc::clone(&doorway);
            // Not in the order of the names, and the same in each run.
            let place = place * 7919 % count;
            let start = spread.mul_f64(as_f64(place) / as_f64(count));
            connecting.spawn(async move {
                sleep(start).await;
                let mut failed = 0;
                loop {
                    let permit = doorway.acquire().await;
                    let tried = device(&tls, port, index, round);
                    match timeout(TRY, tried).await {
                        Ok(Ok(stream)) => return (index, stream, failed),
                        Ok(Err(_)) | Err(_) => failed += 1,
                    }
                    drop(permit);
                    sleep(AGAIN).await;
                }
            });
        }
        let mut failures = 0;
        while let Some(connected) = connecting.join_next().await {
            let Ok((index, stream, failed)) = connected else {
                continue;
            };
            failures += failed;
            let (say, said) = mpsc::channel(1);
            let task = self.tasks.spawn(keep(stream, said));
            if let Some(device) = self.devices.get_mut(index) {
                *device = Some(Device { say, task });
            }
        }
        failures
    }

    /// Cuts every device's connection, without a DISCONNECT and without an end of TLS.
    pub(crate) fn lose_all(&mut self) {
        for device in self.devices.iter_mut().filter_map(Option::take) {
            device.task.abort();
        }
    }

    /// Has a device publish a state with `QoS` 1.
    pub(crate) async fn state(&self, index: usize, text: &[u8]) {
        if let Some(Some(device)) = self.devices.get(index) {
            let topic = format!("atlas/{SYSTEM}/{}/tunnel/state", name(index));
            // It fails when the session has been lost, which the reader notices by hearing nothing.
            let _ = device.say.send(publish(&topic, text, 2, false)).await;
        }
    }

    /// Connects the controller, subscribed to a topic of all devices.
    pub(crate) async fn controller(&mut self, kind: &str) -> io::Result<Heard> {
        let mut stream = dial(self.fleet.controller(), self.port, usize::MAX).await?;
        let mut hello = connect(&client_id(CONTROLLER), None);
        hello.extend(subscribe(&format!("atlas/{SYSTEM}/+/tunnel/{kind}")));
        stream.write_all(&hello).await?;
        let (sender, heard) = mpsc::channel(HEARD);
        self.tasks.spawn(async move {
            // Its end is seen by whoever waits to hear something.
            let _ = listen(stream, sender).await;
        });
        Ok(heard)
    }
}

/// A device's session up to the acknowledgement of its presence.
async fn device(
    tls: &Arc<ClientConfig>,
    port: u16,
    index: usize,
    round: u32,
) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = dial(Arc::clone(tls), port, index).await?;
    let name = name(index);
    let presence = format!("atlas/{SYSTEM}/{name}/tunnel/presence");
    stream
        .write_all(&connect(&client_id(&name), Some(&presence)))
        .await?;
    let mut reader = Reader::default();
    expect(&mut reader, &mut stream, CONNACK).await?;
    stream
        .write_all(&subscribe(&format!(
            "atlas/{SYSTEM}/{name}/tunnel/control/+"
        )))
        .await?;
    expect(&mut reader, &mut stream, SUBACK).await?;
    stream
        .write_all(&publish(&presence, online(round).as_bytes(), 1, true))
        .await?;
    expect(&mut reader, &mut stream, PUBACK).await?;
    Ok(stream)
}

/// Keeps a session alive and says what it is told to.
async fn keep(mut stream: TlsStream<TcpStream>, mut said: mpsc::Receiver<Vec<u8>>) {
    let mut pings = interval_at(tokio::time::Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = [0; 256];
    loop {
        let written = tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                // Acknowledgements: nobody orders anything here.
                Ok(_) => continue,
            },
            _ = pings.tick() => stream.write_all(&PINGREQ).await,
            text = said.recv() => match text {
                Some(text) => stream.write_all(&text).await,
                None => return,
            },
        };
        if written.is_err() {
            return;
        }
    }
}

/// The controller: acknowledges and passes on what it hears.
async fn listen(
    mut stream: TlsStream<TcpStream>,
    sender: mpsc::Sender<(String, Vec<u8>)>,
) -> io::Result<()> {
    let mut reader = Reader::default();
    loop {
        let (first, body) = reader.next(&mut stream).await?;
        if first & 0xf0 != PUBLISH {
            continue;
        }
        let length = match body.get(..2) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        let topic = body.get(2..2 + length).unwrap_or_default();
        let mut payload = body.get(2 + length..).unwrap_or_default();
        if first & 0x06 != 0 {
            let (id, rest) = payload.split_at_checked(2).unwrap_or_default();
            payload = rest;
            let mut acknowledgement = vec![PUBACK, 2];
            acknowledgement.extend(id);
            stream.write_all(&acknowledgement).await?;
        }
        let topic = String::from_utf8_lossy(topic).into_owned();
        if sender.send((topic, payload.to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn dial(tls: Arc<ClientConfig>, port: u16, index: usize) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    // Several addresses: neither the kernel's ports nor what a broker grants one address are what is measured.
    let last = u8::try_from(index % 64).unwrap_or(0) + 1;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)))?;
    let stream = socket
        .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await?;
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    TlsConnector::from(tls).connect(name, stream).await
}

/// Packets out of a stream.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// The first byte and the body of the next packet.
    async fn next(&mut self, stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((head, length)) = header(&self.bytes)
                && self.bytes.len() >= head + length
            {
                let mut packet: Vec<u8> = self.bytes.drain(..head + length).collect();
                let first = packet.first().copied().unwrap_or_default();
                packet.drain(..head);
                return Ok((first, packet));
            }
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The lengths of a packet's header and body, once the header is there.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((place + 2, length));
        }
    }
    None
}

/// Waits for an answer of this kind that does not say no.
async fn expect(
    reader: &mut Reader,
    stream: &mut TlsStream<TcpStream>,
    kind: u8,
) -> io::Result<()> {
    loop {
        let (first, body) = reader.next(stream).await?;
        if first == kind {
            // The return code of CONNACK and SUBACK is the last byte; PUBACK ends with an identifier, which is small here.
            let refused = body.last().is_none_or(|code| *code > 2);
            return if refused {
                Err(ErrorKind::PermissionDenied.into())
            } else {
                Ok(())
            };
        }
    }
}

/// The payload of a presence in this round; the will's is another.
pub(crate) fn online(round: u32) -> String {
    format!(
        "{{\"v\":1,\"online\":true,\"since\":1763000000,\"version\":\"0.1.0\",\"epoch\":{round}}}"
    )
}

fn connect(client_id: &str, will: Option<&str>) -> Vec<u8> {
    // The controller has no will, and none of a device's reasons to be noticed when it is silent.
    let (flags, keep_alive) = match will {
        Some(_) => (0x2e, KEEP_ALIVE),
        None => (0x02, 0),
    };
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, keep_alive];
    text(&mut body, client_id.as_bytes());
    if let Some(topic) = will {
        text(&mut body, topic.as_bytes());
        text(&mut body, OFFLINE);
    }
    packet(0x10, &body)
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter.as_bytes());
    body.push(1);
    packet(0x82, &body)
}

fn publish(topic: &str, payload: &[u8], id: u8, retain: bool) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic.as_bytes());
    body.extend([0, id]);
    body.extend(payload);
    packet(PUBLISH | 0x02 | u8::from(retain), &body)
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    body.extend(length.to_be_bytes());
    body.extend(text);
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        packet.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;
const PINGREQ: [u8; 2] = [0xc0, 0];

/// What the broker says when a device is gone.
const OFFLINE: &[u8] = b"{\"v\":1,\"online\":false,\"lost\":true,\"since\":1763000000,\"version\":\"0.1.0\",\"epoch\":1}";

/// Seconds; a device says something twice in that time.
const KEEP_ALIVE: u8 = 60;
const PING: Duration = Duration::from_secs(30);

/// Handshakes in flight: enough to keep a broker busy, less than any broker's doorway.
const AT_ONCE: usize = 64;

/// How long one try may take, and the pause after one that failed.
const TRY: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(500);

/// More than all that a controller hears at once.
const HEARD: usize = 100_000;
