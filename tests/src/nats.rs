//! A real cluster of three nats-servers with `JetStream`, with the realm's own certificate authority.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::{CEILING, Daemon, ReservedPort, World, is_listening, tool, wait_until};

/// A running cluster in the place of the realm's broker: node 0 is on the world's broker port.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Option<Daemon>>,
    ports: Vec<ReservedPort>,
    routes: Vec<ReservedPort>,
    clients: Vec<ReservedPort>,
    first: u16,
}

/// The least with which one can be lost: two of three are still a majority.
const NODES: usize = 3;

impl NatsCluster {
    /// Reserves its ports and writes into `realm.toml` that it is the realm's broker; devices that are enrolled from now on
    /// know it. Nothing runs yet: whose accounts there are is known after they are enrolled.
    ///
    /// # Panics
    /// When the realm's file is not as expected.
    #[track_caller]
    pub fn reserve(world: &World) -> Self {
        let take = |count| (0..count).map(|_| ReservedPort::take()).collect::<Vec<_>>();
        let cluster = Self {
            nodes: Vec::new(),
            ports: take(NODES - 1),
            routes: take(NODES),
            clients: take(NODES),
            first: world.broker_port(),
        };
        let file = world.realm().join("realm.toml");
        let text = fs::read_to_string(&file).expect("the realm has its file");
        let line = format!("address = \"127.0.0.1:{}\"\n", cluster.first);
        let more: Vec<_> = cluster
            .ports
            .iter()
            .map(|port| format!("\"{}\"", port.address()))
            .collect();
        let lines = format!(
            "{line}more_addresses = [{}]\nsubscribe_qos = 0\n",
            more.join(", ")
        );
        assert!(text.contains(&line), "no broker in {text}");
        fs::write(&file, text.replacen(&line, &lines, 1)).expect("the realm's file is writable");
        cluster
    }

    /// Starts all nodes with these accounts, and waits until they are one.
    ///
    /// # Panics
    /// When they do not become one.
    #[track_caller]
    pub fn start(&mut self, world: &World, accounts: &str) {
        Self::write_accounts(world, accounts);
        self.nodes = (0..NODES)
            .map(|node| Some(self.launch(world, node)))
            .collect();
        wait_until("a leader of the cluster's JetStream", CEILING, || {
            let logs: Vec<_> = (0..NODES).map(|node| self.log(node)).collect();
            // One that comes to a cluster that has a leader says nothing of it.
            let led = logs.iter().any(|log| log.contains("metadata leader"));
            if led { Ok(()) } else { Err(logs.join("\n")) }
        });
    }

    /// Replaces the accounts and has every node read them again.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn reload(&self, world: &World, accounts: &str) {
        Self::write_accounts(world, accounts);
        for node in 0..self.nodes.len() {
            let Some(Some(daemon)) = self.nodes.get(node) else {
                continue;
            };
            let before = self.log(node).matches(RELOADED).count();
            daemon.signal(Signal::HUP);
            wait_until("the accounts to be read again", CEILING, || {
                let log = self.log(node);
                if log.matches(RELOADED).count() > before {
                    Ok(())
                } else {
                    Err(log)
                }
            });
        }
    }

    /// Ends a node without a goodbye.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill(&mut self, node: usize) {
        let daemon = self.nodes.get_mut(node).and_then(Option::take);
        daemon.expect("the node runs").kill();
    }

    /// Starts a node again that was ended.
    ///
    /// # Panics
    /// When there is none of this number, or it does not come up.
    #[track_caller]
    pub fn restart(&mut self, world: &World, node: usize) {
        let daemon = self.launch(world, node);
        *self
            .nodes
            .get_mut(node)
            .expect("there is one of this number") = Some(daemon);
    }

    /// The MQTT port of a node.
    pub fn port(&self, node: usize) -> u16 {
        node.checked_sub(1)
            .and_then(|node| self.ports.get(node))
            .map_or(self.first, ReservedPort::number)
    }

    /// The port for NATS's own clients.
    pub fn client_port(&self, node: usize) -> u16 {
        self.clients.get(node).map_or(0, ReservedPort::number)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        NODES
    }

    /// Never: it is a cluster.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What a node has logged.
    pub fn log(&self, node: usize) -> String {
        let daemon = self.nodes.get(node).and_then(Option::as_ref);
        daemon.map(Daemon::stderr).unwrap_or_default()
    }

    #[track_caller]
    fn write_accounts(world: &World, accounts: &str) {
        fs::write(world.path("accounts.conf"), accounts).expect("the world's folder is writable");
    }

    #[track_caller]
    fn launch(&self, world: &World, node: usize) -> Daemon {
        let config = world.path(&format!("nats-{node}.conf"));
        fs::write(&config, self.settings(world, node)).expect("the world's folder is writable");
        let mut command = Command::new(tool("nats-server"));
        world.mark(&mut command);
        command.arg("-c").arg(&config);
        let mut daemon = world.daemon(&format!("nats-{node}"), &mut command);
        let port = self.port(node);
        wait_until("nats-server to listen", CEILING, || {
            let ended = daemon.has_ended();
            assert!(ended.is_none(), "nats-server ended: {}", daemon.stderr());
            if is_listening(port) {
                Ok(())
            } else {
                Err(daemon.stderr())
            }
        });
        daemon
    }

    fn settings(&self, world: &World, node: usize) -> String {
        let realm = world.realm();
        let number =
            |ports: &[ReservedPort], node: usize| ports.get(node).map_or(0, ReservedPort::number);
        let routes: Vec<_> = self
            .routes
            .iter()
            .map(|route| format!("\"nats://{}\"", route.address()))
            .collect();
        let routes = routes.join(", ");
        format!(
            "server_name: n{node}\nlisten: 127.0.0.1:{}\n\
             jetstream {{ store_dir: \"{}\", max_memory_store: 64MB, max_file_store: 1GB }}\n\
             cluster {{ name: atlas, listen: \"127.0.0.1:{}\", routes: [{routes}] }}\n\
             mqtt {{\n  listen: \"127.0.0.1:{}\"\n  tls {{\n    cert_file: \"{}\"\n    key_file: \"{}\"\n    \
             ca_file: \"{}\"\n    verify_and_map: true\n  }}\n}}\ninclude \"accounts.conf\"\n",
            number(&self.clients, node),
            world.path(&format!("nats-{node}")).display(),
            number(&self.routes, node),
            self.port(node),
            realm.join("broker/server.cert").display(),
            realm.join("broker/server.key").display(),
            realm.join("ca/ca.cert").display(),
        )
    }
}

/// What nats-server says when it has taken a new configuration.
const RELOADED: &str = "Reloaded server configuration";
