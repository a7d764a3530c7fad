//! What a stranger can do to a proxy, with a fleet of addresses: memory stays bounded, and who has a key gets in meanwhile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use e2e::{
    CEILING, Daemon, Device, Stopwatch, World, allocated, cpu_time, raise_descriptors, run,
    wait_until,
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// A realm's proxy in a process of its own, and somebody who may log in to it.
struct Target {
    proxy: Daemon,
    controller: Device,
    world: World,
}

impl Target {
    fn start() -> Self {
        raise_descriptors();
        let world = World::new();
        let (broker, signer) = (world.broker(), world.signer());
        let controller = world.enroll("hula", "controller-a");
        drop((broker, signer));
        let proxy = world.proxy();
        let target = Self {
            proxy,
            controller,
            world,
        };
        target.login();
        target
    }

    /// How long OpenSSH's client takes to log in, again and again if it is turned away, from another address than all the
    /// attackers.
    fn login(&self) -> Duration {
        let watch = Stopwatch::start();
        wait_until("a login", CEILING, || {
            let mut ssh = self.world.stock("ssh", &self.controller, &[]);
            let port = self.world.proxy_port().to_string();
            ssh.args(["-p", &port, "hula@127.0.0.1", "id"]);
            let outcome = run(&mut ssh, CEILING);
            if outcome.stderr.contains("It has no shell") {
                Ok(())
            } else {
                Err(outcome.report())
            }
        });
        watch.elapsed()
    }

    fn allocated(&self) -> u64 {
        allocated(self.proxy.pid())
    }

    /// Opens so many connections, each from an address of its own, says the same on all, and holds them.
    fn flood(&self, count: u32, words: &[u8]) -> Vec<TcpStream> {
        let held = (0..count).map(|number| {
            let mut socket = self.connect_from(number);
            // It may have been turned away already.
            let _ = socket.write_all(words);
            socket
        });
        held.collect()
    }

    fn connect_from(&self, number: u32) -> TcpStream {
        let [high, low] = [number / 250, number % 250].map(|part| u8::try_from(part).unwrap());
        let from = Ipv4Addr::new(127, 7, high, low + 1);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.world.proxy_port());
        connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    }

    /// One attack that holds its connections: what it costs, and that it is over when it is over.
    fn endures(&self, name: &str, count: u32, words: &[u8]) {
        let (before, calm) = (self.allocated(), self.login());
        let held = self.flood(count, words);
        let meanwhile = self.login();
        let grown = self.allocated().saturating_sub(before);
        println!(
            "{name}: {count} connections, {} MiB before, {} MiB more, login {calm:?} before and {meanwhile:?} meanwhile",
            before / MIB,
            grown / MIB,
        );
        assert!(grown < BOUND, "{name}: {} MiB more", grown / MIB);
        assert!(meanwhile < LOGIN, "{name}: a login took {meanwhile:?}");
        drop(held);
        let rest = wait_until("the memory to be given back", GIVEN_BACK, || {
            let rest = self.allocated().saturating_sub(before);
            if rest < REST {
                Ok(rest)
            } else {
                Err(format!("{} MiB more", rest / MIB))
            }
        });
        println!(
            "{name}: {} MiB more afterwards, login {:?}",
            rest / MIB,
            self.login()
        );
    }
}

#[test]
fn silent_strangers() {
    Target::start().endures("silent", 5_000, b"");
}

#[test]
fn strangers_who_say_who_they_are_and_no_more() {
    Target::start().endures("after the banner", 5_000, b"SSH-2.0-x\r\n");
}

#[test]
fn strangers_with_half_a_packet() {
    // It announces 256 KiB, which the proxy sets aside.
    let mut words = b"SSH-2.0-x\r\n\x00\x03\xff\xff\x04".to_vec();
    words.extend([0; 1000]);
    Target::start().endures("half a packet", 2_000, &words);
}

#[test]
fn strangers_from_one_address() {
    const COUNT: usize = 5_000;
    let target = Target::start();
    let mut held: Vec<TcpStream> = (0..COUNT).map(|_| target.connect_from(0)).collect();
    // All but its share are told so, or at least closed; nobody else notices.
    let login = target.login();
    println!("{COUNT} from one address: login {login:?} meanwhile");
    assert!(login < LOGIN, "{login:?}");
    for socket in &held {
        socket.set_nonblocking(true).unwrap();
    }
    // Its share is its own, until that has not logged in in time either.
    wait_until("most to be closed", CEILING, || {
        held.retain_mut(|socket| !is_closed(socket));
        let open = held.len();
        (open <= SHARE)
            .then_some(())
            .ok_or(format!("{open} are open"))
    });
}

#[test]
fn a_slow_key_exchange_cannot_be_forced() {
    const COUNT: u32 = 500;
    let target = Target::start();
    let mut words = b"SSH-2.0-x\r\n".to_vec();
    words.extend(key_exchange_init("diffie-hellman-group18-sha512"));
    let before = cpu_time(target.proxy.pid());
    let watch = Stopwatch::start();
    for mut socket in target.flood(COUNT, &words) {
        socket.set_read_timeout(Some(CEILING)).unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = socket.read_to_end(&mut answer);
    }
    let spent = cpu_time(target.proxy.pid()).saturating_sub(before);
    println!(
        "{COUNT} forced key exchanges: {spent:?} of CPU, {:?}",
        watch.elapsed()
    );
    // One of group 18 alone takes two thirds of a second.
    assert!(spent < Duration::from_millis(10) * COUNT, "{spent:?}");
    target.login();
}

#[test]
fn garbage() {
    const COUNT: u32 = 1_000;
    let target = Target::start();
    let before = target.allocated();
    let mut seed = 1_u64;
    for number in 0..COUNT {
        let mut bytes = vec![0; 4096];
        for byte in &mut bytes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = seed.to_le_bytes()[7];
        }
        if number % 2 == 0 {
            bytes.splice(0..0, *b"SSH-2.0-x\r\n");
        }
        let mut socket = target.connect_from(number);
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        socket.set_read_timeout(Some(CEILING)).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
    }
    let grown = target.allocated().saturating_sub(before);
    println!(
        "{COUNT} times garbage: {} KiB more, login {:?}",
        grown / 1024,
        target.login()
    );
    assert!(grown < 16 * MIB, "{} MiB", grown / MIB);
}

/// A packet with a KEXINIT that offers one key exchange, and whatever else the proxy likes (RFC 4253, section 7.1).
fn key_exchange_init(kex: &str) -> Vec<u8> {
    let (cipher, mac) = ("aes128-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com");
    let lists = [
        kex,
        "ssh-ed25519",
        cipher,
        cipher,
        mac,
        mac,
        "none",
        "none",
        "",
        "",
    ];
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in lists {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.as_bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let length = u32::try_from(1 + payload.len() + padding).unwrap();
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.extend(vec![0; padding]);
    packet
}

fn is_closed(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 512];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

const MIB: u64 = 1024 * 1024;

/// The doorway's 512 places at 305 KB each, and something for those that are told to go.
const BOUND: u64 = 256 * MIB;

/// What may stay of it, and for how long more than that.
const REST: u64 = 32 * MIB;
const GIVEN_BACK: Duration = Duration::from_mins(1);

/// What a login may take meanwhile: several times the five seconds for which nobody in the doorway is displaced, on a machine that
/// is busy with other tests, and less than it takes until the attackers' own time is over.
const LOGIN: Duration = Duration::from_secs(20);

/// How many of one address may stand in the doorway.
const SHARE: usize = 16;
