//! The way from enrollment to a command on the remote computer, with somebody else's broker in the middle.

use e2e::{CEILING, Daemon, Device, Sshd, World, current_user, run, wait_until};

/// A proxy, a signer, a device with a real sshd behind it, and a controller; the broker is the test's.
pub(super) struct Way {
    // Fields are dropped in this order: the world, which prints the logs of a failed test, goes last.
    pub(super) agent: Option<Daemon>,
    _proxy: Daemon,
    _signer: Daemon,
    sshd: Sshd,
    pub(super) device: Device,
    pub(super) controller: Device,
    pub(super) world: World,
}

impl Way {
    /// Everything enrolled, nobody connected to a broker.
    #[track_caller]
    pub(super) fn enrolled(world: World) -> Self {
        let (proxy, signer) = (world.proxy(), world.signer());
        let sshd = Sshd::start("sshd", world.folder(), &world.logs());
        let device = world.enroll("hula", "333");
        let controller = world.enroll("hula", "controller-a");
        device.configure(&sshd, &[], "1s");
        sshd.authorize(&controller);
        Self {
            agent: None,
            _proxy: proxy,
            _signer: signer,
            sshd,
            device,
            controller,
            world,
        }
    }

    /// Starts the agent, and waits until the controller sees it.
    #[track_caller]
    pub(super) fn start_agent(&mut self) {
        self.agent = Some(self.world.agent(&self.device));
        self.world
            .wait_for_presence(&self.controller, &self.device, true);
    }

    /// Stops the agent, which says goodbye, and waits until the controller sees that.
    #[track_caller]
    pub(super) fn stop_agent(&mut self) {
        self.agent.take().expect("it runs").terminate();
        self.world
            .wait_for_presence(&self.controller, &self.device, false);
    }

    /// What `tunnel policies` writes for this kind of broker.
    #[track_caller]
    pub(super) fn rules(&self, broker: &str) -> String {
        let mut render = self.world.tunnel();
        render
            .args(["policies", broker, "--dir"])
            .arg(self.world.realm());
        run(&mut render, CEILING).success().stdout
    }

    /// Runs a command on the remote computer, until it works: a cluster that has just lost a computer may refuse.
    #[track_caller]
    pub(super) fn connect(&self) {
        let whom = format!("{}@{}", current_user(), self.device.device());
        wait_until("a command on the remote computer", CEILING, || {
            let arguments = ["connect", &whom, "--", "echo here"];
            let outcome = self.world.run_as(&self.controller, &arguments);
            if outcome.code == Some(0) && outcome.stdout == "here\n" {
                Ok(())
            } else {
                Err(outcome.report())
            }
        });
        assert!(self.sshd.port() > 0);
    }
}
