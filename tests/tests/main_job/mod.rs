//! The main job: one command makes a realm, one connects through it.

mod connect;
mod data_path;
mod demo;
mod leases;
mod plain;
mod policy;
mod recovery;
mod refusals;
mod setup;
mod shutdown;
mod signals;
mod stage;
pub(crate) mod stock_proxy;
mod supervision;
mod wire;

use std::process::Command;

use e2e::{Daemon, Device, Sshd, World, current_user};

/// The smallest realm that does the job: `tunnel serve`, an agent with a real sshd behind it, one controller.
pub(crate) struct Job {
    // Fields are dropped in this order: the world, which prints the logs of a failed test, goes last.
    pub(crate) agent: Option<Daemon>,
    pub(crate) serve: Option<Daemon>,
    pub(crate) sshd: Sshd,
    pub(crate) device: Device,
    pub(crate) controller: Device,
    pub(crate) world: World,
}

impl Job {
    /// Everything running, the device seen online by the controller.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with_services(&[])
    }

    /// Like [`start`](Self::start), with more services at the device as (name, address).
    #[track_caller]
    pub(crate) fn with_services(services: &[(&str, &str)]) -> Self {
        let world = World::new();
        let serve = world.serve();
        Self::around(world, Some(serve), services)
    }

    /// Device, controller and agent in a world whose broker, proxy and signer run already.
    #[track_caller]
    pub(crate) fn around(world: World, serve: Option<Daemon>, services: &[(&str, &str)]) -> Self {
        let sshd = Sshd::start("sshd", world.folder(), &world.logs());
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        device.configure(&sshd, services, GRACE);
        sshd.authorize(&controller);
        let agent = world.agent(&device);
        world.wait_for_presence(&controller, &device, true);
        Self {
            agent: Some(agent),
            serve,
            sshd,
            device,
            controller,
            world,
        }
    }

    /// Another controller of the system, let in by the device's sshd.
    #[track_caller]
    pub(crate) fn second_controller(&self) -> Device {
        let controller = self.world.enroll("hula", "controller-b");
        self.sshd.authorize(&controller);
        controller
    }

    /// `tunnel connect USER@333 -- COMMAND`
    pub(crate) fn connect(&self, command: &str) -> Command {
        self.connect_as(&self.controller, command)
    }

    /// `tunnel connect USER@333 -- COMMAND`, by this controller.
    pub(crate) fn connect_as(&self, controller: &Device, command: &str) -> Command {
        let whom = format!("{}@{}", current_user(), self.device.device());
        self.world
            .tunnel_as(controller, &["connect", &whom, "--", command])
    }

    /// Stock `ssh` with this system's device known by the names that people would use.
    pub(crate) fn stock(&self, program: &str) -> Command {
        self.stock_as(program, &self.controller)
    }

    /// Stock `ssh`, by this controller.
    pub(crate) fn stock_as(&self, program: &str, controller: &Device) -> Command {
        let key = self.sshd.host_key();
        self.world.stock(
            program,
            controller,
            &[("333", &key), ("333.hula.atlas", &key)],
        )
    }

    /// A ProxyCommand into the tunnel, for stock programs.
    pub(crate) fn proxy_command(&self) -> String {
        let directory = self.controller.dir().display();
        format!(
            "ProxyCommand={} stdio --dir {directory} %h",
            e2e::tunnel_binary().display()
        )
    }
}

/// The parts of a realm in processes of their own, so that one can be killed.
pub(crate) struct Parts {
    pub(crate) broker: Option<Daemon>,
    pub(crate) proxy: Option<Daemon>,
    pub(crate) _signer: Daemon,
    pub(crate) job: Job,
}

impl Parts {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let world = World::new();
        let (broker, proxy, signer) = (world.broker(), world.proxy(), world.signer());
        let job = Job::around(world, None, &[]);
        Self {
            broker: Some(broker),
            proxy: Some(proxy),
            _signer: signer,
            job,
        }
    }
}

/// How long the tunnels of these tests outlive their last lease: long enough to be seen, short enough to be waited for.
pub(crate) const GRACE: &str = "1s";

/// More than the grace period, and less than a lease's minute: what a tunnel that nobody uses any more may take to be gone.
pub(crate) const GONE: std::time::Duration = std::time::Duration::from_secs(20);
