//! A computer behind a link of its own, which can be cut, made lossy or slow.

use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{CEILING, Outcome, run, tool};

/// A network namespace with one link to the test's. It takes root; dropping it removes both.
#[derive(Debug)]
pub struct Link {
    namespace: String,
    outer: String,
    subnet: u8,
}

impl Link {
    /// Makes it.
    ///
    /// # Panics
    /// When that is not allowed, or no subnet of 10.213.0.0/16 is free.
    #[track_caller]
    pub fn new() -> Self {
        // Interface names have 15 characters at most.
        let name = format!(
            "{:x}{:x}",
            std::process::id(),
            LINKS.fetch_add(1, Ordering::Relaxed)
        );
        let (namespace, outer, inner) = (
            format!("e2e-{name}"),
            format!("eo{name}"),
            format!("ei{name}"),
        );
        ip(&["netns", "add", &namespace]).success();
        let mut link = Self {
            namespace,
            outer,
            subnet: 0,
        };
        let peer = [
            "type",
            "veth",
            "peer",
            "name",
            &inner,
            "netns",
            &link.namespace,
        ];
        ip(&[&["link", "add", &*link.outer][..], &peer].concat()).success();
        // Two that look at the same time would find the same one free.
        let lock = std::env::temp_dir().join("tunnel-e2e-links");
        let lock = File::create(lock).expect("the temporary directory is writable");
        lock.lock().expect("files can be locked");
        link.subnet = (1..250)
            .find(|subnet| {
                let address = format!("10.213.{subnet}.1/24");
                let route = ip(&["route", "show", &format!("10.213.{subnet}.0/24")]);
                route.stdout.is_empty()
                    && ip(&["addr", "add", &address, "dev", &link.outer]).code == Some(0)
                    && ip(&["link", "set", &link.outer, "up"]).code == Some(0)
            })
            .expect("a free subnet");
        drop(lock);
        let inside = format!("10.213.{}.2/24", link.subnet);
        link.ip_inside(&["addr", "add", &inside, "dev", &inner]);
        link.ip_inside(&["link", "set", &inner, "up"]);
        link.ip_inside(&["link", "set", "lo", "up"]);
        link
    }

    /// Where the computer finds the test's side.
    pub fn outside(&self) -> String {
        format!("10.213.{}.1", self.subnet)
    }

    /// This command, with its environment, on the computer.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new(tool("ip"));
        inside
            .args(["netns", "exec", &self.namespace])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// What happens to packets of the link, both ways, as nft(8) says it: `drop` is a cut that tells nobody; an empty text ends it.
    #[track_caller]
    pub fn rule(&self, rule: &str) {
        let chain = |name: &str, loopback: &str| {
            format!(
                "chain {name} {{ type filter hook {name} priority 0\n {loopback} \"lo\" accept\n {rule}\n}}\n"
            )
        };
        let (input, output) = (chain("input", "iifname"), chain("output", "oifname"));
        let rules = format!("flush ruleset\ntable inet fault {{\n{input}{output}}}\n");
        let mut nft = Command::new(tool("nft"));
        run(&mut self.inside(nft.arg(rules)), CEILING).success();
    }

    /// Holds both ways of the link to a rate, as tc-tbf(8) says it.
    #[track_caller]
    pub fn rate(&self, rate: &str) {
        let inner = self.outer.replacen("eo", "ei", 1);
        let limit = |device: &str| {
            let mut tc = Command::new(tool("tc"));
            tc.args(["qdisc", "replace", "dev", device, "root", "tbf"])
                .args(["rate", rate, "burst", "32kb", "latency", "100ms"]);
            tc
        };
        run(&mut limit(&self.outer), CEILING).success();
        run(&mut self.inside(&limit(&inner)), CEILING).success();
    }

    /// How many bytes the link has carried to the computer, and from it.
    pub fn carried(&self) -> (u64, u64) {
        let count = |name: &str| {
            let file = format!("/sys/class/net/{}/statistics/{name}", self.outer);
            let text = fs::read_to_string(file).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        (count("tx_bytes"), count("rx_bytes"))
    }

    #[track_caller]
    fn ip_inside(&self, words: &[&str]) {
        ip(&[&["-n", &*self.namespace][..], words].concat()).success();
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The link goes with either of its ends.
        ip(&["link", "del", &self.outer]);
        ip(&["netns", "del", &self.namespace]);
    }
}

static LINKS: AtomicU32 = AtomicU32::new(0);

#[track_caller]
fn ip(words: &[&str]) -> Outcome {
    run(Command::new(tool("ip")).args(words), CEILING)
}
