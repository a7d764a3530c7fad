//! A real mosquitto with the realm's own certificate authority.

use std::fs;
use std::process::Command;

use crate::{CEILING, Daemon, Device, World, is_listening, tool, wait_until};

/// A running mosquitto in the place of the realm's broker.
#[derive(Debug)]
pub struct Mosquitto {
    daemon: Daemon,
}

impl Mosquitto {
    /// Starts it on the world's broker port: mutual TLS, the certificate's CN is the user and the client id.
    /// `rules` is the content of its ACL file.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(world: &World, rules: &str) -> Self {
        let rules_file = world.path("mosquitto.acl");
        fs::write(&rules_file, rules).expect("the world's folder is writable");
        let settings = format!(
            "acl_file {}\nuse_identity_as_username true\nuse_username_as_clientid true\n",
            rules_file.display()
        );
        Self::with_settings(world, &settings)
    }

    /// Starts it with mutual TLS, no access rules, and any client ids: the broker of a realm where nobody is kept from
    /// anything, for programs which cannot do their part over one connection.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_open(world: &World) -> Self {
        Self::with_settings(world, "use_identity_as_username true\n")
    }

    /// Like [`start_open`](Self::start_open), with access rules: the content of its ACL file.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_open_with(world: &World, rules: &str) -> Self {
        let rules_file = world.path("mosquitto.acl");
        fs::write(&rules_file, rules).expect("the world's folder is writable");
        let settings = format!(
            "acl_file {}\nuse_identity_as_username true\n",
            rules_file.display()
        );
        Self::with_settings(world, &settings)
    }

    /// Like [`start_open`](Self::start_open), with the realm's revocation list.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_with_list(world: &World) -> Self {
        let settings = format!(
            "use_identity_as_username true\ncrlfile {}\n",
            world.realm().join("ca/crl.pem").display()
        );
        Self::with_settings(world, &settings)
    }

    /// `mosquitto_pub` or `mosquitto_sub` with a device's certificate, on the world's broker, whichever that is.
    ///
    /// # Panics
    /// When it is not installed.
    #[track_caller]
    pub fn client(program: &str, world: &World, device: &Device, client_id: &str) -> Command {
        let mut command = Command::new(tool(program));
        world.mark(&mut command);
        command
            .args(["-h", world.host(), "-p", &world.broker_port().to_string()])
            .args(["-V", "mqttv311", "-i", client_id, "--cafile"])
            .arg(world.realm().join("ca/ca.cert"))
            .arg("--cert")
            .arg(device.certificate())
            .arg("--key")
            .arg(device.tls_key());
        command
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.daemon.stderr()
    }

    #[track_caller]
    fn with_settings(world: &World, settings: &str) -> Self {
        let (realm, port) = (world.realm(), world.broker_port());
        let config = world.path("mosquitto.conf");
        // `user root` has no effect unless root runs it; then it keeps mosquitto able to read the world's folder.
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\nallow_anonymous false\npersistence false\n\
             log_dest stderr\nlog_type all\nset_tcp_nodelay true\nsys_interval 1\n\
             cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n{settings}",
            realm.join("ca/ca.cert").display(),
            realm.join("broker/server.cert").display(),
            realm.join("broker/server.key").display(),
        );
        fs::write(&config, text).expect("the world's folder is writable");
        let mut command = Command::new(tool("mosquitto"));
        world.mark(&mut command);
        command.arg("-c").arg(&config);
        let mut daemon = world.daemon("mosquitto", &mut command);
        wait_until("mosquitto to listen", CEILING, || {
            let ended = daemon.has_ended();
            assert!(ended.is_none(), "mosquitto ended: {}", daemon.stderr());
            if is_listening(port) {
                Ok(())
            } else {
                Err(daemon.stderr())
            }
        });
        Self { daemon }
    }
}
