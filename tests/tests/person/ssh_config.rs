//! `tunnel ssh-config`: ssh, and all that is built on it, finds a device by its name.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use e2e::{
    CEILING, EchoServer, Laptop, ReservedPort, Sshd, World, checksum, current_user, is_listening,
    random_file, run, tool, wait_until,
};

use super::{installed, line, read, write_config};
use crate::main_job::Job;

#[test]
fn ssh_scp_sftp_rsync_and_git_find_a_device_by_its_name() {
    let job = Job::start();
    let laptop = installed(&job);
    let (me, folder) = (current_user(), job.world.path("device"));
    fs::create_dir(&folder).unwrap();
    let (device, there) = (format!("{me}@333.hula.atlas"), folder.display());
    random_file(&laptop.home().join("sent"), 3_000_003);
    let sent = checksum(&laptop.home().join("sent"));

    // The settings alone say where the controller is.
    let ssh = format!("env -u TUNNEL_DIR ssh {device} 'echo here; exit 5'");
    let outcome = line(&laptop, &ssh);
    let seen = (outcome.code, &*outcome.stdout, &*outcome.stderr);
    assert_eq!(seen, (Some(5), "here\n", ""), "{}", outcome.report());

    line(&laptop, &format!("scp -q sent {device}:{there}/by-scp")).success();
    assert_eq!(checksum(&folder.join("by-scp")), sent);
    line(&laptop, &format!("scp -q {device}:{there}/by-scp back")).success();
    assert_eq!(checksum(&laptop.home().join("back")), sent);

    let batch = format!("put sent {there}/by-sftp\nget {there}/by-sftp again\n");
    fs::write(laptop.home().join("batch"), batch).unwrap();
    line(&laptop, &format!("sftp -q -b batch {device}")).success();
    assert_eq!(checksum(&folder.join("by-sftp")), sent);
    assert_eq!(checksum(&laptop.home().join("again")), sent);

    let rsync = format!("mkdir tree; cp sent tree/; rsync -a -e ssh tree/ {device}:{there}/tree/");
    line(&laptop, &rsync).success();
    assert_eq!(checksum(&folder.join("tree/sent")), sent);

    let commit = "git -c user.name=x -c user.email=x commit -q --allow-empty -m 'in the field'";
    let repository = format!("git init -q {there}/repository; cd {there}/repository; {commit}");
    line(&laptop, &repository).success();
    let clone = format!("git clone -q ssh://{device}{there}/repository; git -C repository log");
    let outcome = line(&laptop, &clone).success();
    assert!(
        outcome.stdout.contains("in the field"),
        "{}",
        outcome.report()
    );

    // All of it with the host key that the device has told, and nothing said about it.
    let known = read(&laptop.dir().join("known_hosts"));
    assert!(known.starts_with("333.hula.atlas ssh-ed25519 "), "{known}");
    assert!(!laptop.home().join(".ssh/known_hosts").exists());
}

#[test]
fn ssh_d_carries_a_browser_and_a_jump_goes_behind_the_device() {
    let job = Job::start();
    let laptop = installed(&job);
    let me = current_user();
    let (web, socks) = (ReservedPort::take(), ReservedPort::take());
    fs::write(job.world.path("page"), "a page behind the device\n").unwrap();
    let mut server = Command::new(tool("python3"));
    job.world.mark(&mut server);
    server
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(job.world.folder())
        .arg(web.number().to_string());
    let _server = job.world.daemon("web", &mut server);
    let dynamic = format!(
        "exec ssh -N -o ExitOnForwardFailure=yes -D {} {me}@333.hula.atlas",
        socks.address()
    );
    let _forward = job.world.daemon("dynamic", &mut laptop.shell(&dynamic));
    for port in [web.number(), socks.number()] {
        wait_until("a listener", CEILING, || {
            is_listening(port)
                .then_some(())
                .ok_or_else(|| "nobody listens".to_owned())
        });
    }
    let curl = format!(
        "curl -sSf --proxy socks5h://{} http://{}/page",
        socks.address(),
        web.address()
    );
    assert_eq!(
        line(&laptop, &curl).success().stdout,
        "a page behind the device\n"
    );

    let inner = Sshd::start("inner", job.world.folder(), &job.world.logs());
    inner.authorize(&job.controller);
    let key = read(&inner.host_key());
    fs::write(
        laptop.home().join("inner_known"),
        format!("inner {}\n", key.trim()),
    )
    .unwrap();
    let (address, port) = inner
        .address()
        .split_once(':')
        .map(|(a, p)| (a.to_owned(), p.to_owned()))
        .unwrap();
    let config = laptop.home().join(".ssh/config");
    let settings = format!(
        "Host inner\n  HostName {address}\n  Port {port}\n  HostKeyAlias inner\n  ProxyJump {me}@333.hula.atlas\n  \
         UserKnownHostsFile \"~/inner_known\"\n  IdentityFile \"~/.config/100%% tunnel/{}.sshkey\"\n",
        job.controller.id()
    );
    fs::write(&config, read(&config) + &settings).unwrap();
    let outcome = line(
        &laptop,
        &format!("ssh {me}@inner 'echo behind it; echo $SSH_CONNECTION'"),
    );
    let said = outcome.success().stdout;
    assert!(
        said.starts_with("behind it\n") && said.contains(&port),
        "{said}"
    );
}

#[test]
fn a_port_is_the_service_that_has_it() {
    let echo = EchoServer::start();
    let job = Job::with_services(&[("echo", &echo.address())]);
    let laptop = installed(&job);
    let port = echo.address().rsplit_once(':').unwrap().1.to_owned();
    for service in ["echo", &*port] {
        let said = line(
            &laptop,
            &format!("echo hello | tunnel stdio 333.hula.atlas {service}"),
        );
        assert_eq!(said.success().stdout, "hello\n", "{service}");
    }
    let banner = line(&laptop, "tunnel stdio 333.hula.atlas 22 < /dev/null").success();
    assert!(banner.stdout.starts_with("SSH-2.0-"), "{}", banner.report());
    let refused = line(&laptop, "tunnel stdio 333 1 < /dev/null");
    assert_eq!(refused.code, Some(77), "{}", refused.report());
    let sshd = job.sshd.address();
    let sshd = sshd.rsplit_once(':').unwrap().1;
    let offers = format!("offers no service `1`, only: ssh ({sshd}), echo ({port})");
    assert!(
        refused.lines("error")[0].contains(&offers),
        "{}",
        refused.report()
    );
}

#[test]
fn another_sshd_of_the_device_is_at_its_port_and_known_by_it() {
    let world = World::new();
    let second = Sshd::start("second", world.folder(), &world.logs());
    let serve = world.serve();
    let job = Job::around(world, Some(serve), &[("second", &second.address())]);
    second.authorize(&job.controller);
    let laptop = installed(&job);
    let port = second.address().rsplit_once(':').unwrap().1.to_owned();
    let ssh = |options: &str| {
        let device = format!("{}@333.hula.atlas", current_user());
        line(
            &laptop,
            &format!("ssh {options} -p {port} {device} 'echo $SSH_CONNECTION'"),
        )
    };
    // Nobody has told its key, and nobody is here to be asked.
    assert_eq!(ssh("").code, Some(255));
    let said = ssh("-o StrictHostKeyChecking=accept-new").success().stdout;
    assert!(said.trim().ends_with(&port), "{said}");
    let known = read(&laptop.dir().join("known_hosts"));
    assert!(
        known.contains(&format!("[333.hula.atlas]:{port} ")),
        "{known}"
    );
    ssh("").success();
}

#[test]
fn a_short_name_is_there_for_who_asks() {
    let job = Job::start();
    let laptop = installed(&job);
    let ssh = format!("ssh {}@333.hula echo here", current_user());
    assert_eq!(line(&laptop, &ssh).code, Some(255));
    line(&laptop, "tunnel ssh-config --install --short").success();
    assert_eq!(line(&laptop, &ssh).success().stdout, "here\n");
    let known = read(&laptop.dir().join("known_hosts"));
    assert!(known.starts_with("333.hula.atlas "), "{known}");
}

#[test]
fn what_is_installed_can_be_seen_and_is_taken_away_whole() {
    let job = Job::start();
    let laptop = Laptop::new(&job.world, &job.controller);
    let mine = "# mine, with no end of line\nHost *\n  User somebody";
    write_config(&laptop, mine);
    let printed = line(&laptop, "tunnel ssh-config").success().stdout;
    assert!(!printed.contains("StrictHostKeyChecking no"), "{printed}");
    assert_eq!(
        read(&laptop.home().join(".ssh/config")),
        mine,
        "only printed"
    );
    let install = "tunnel ssh-config --install && tunnel ssh-config --install";
    line(&laptop, install).success();
    let file = laptop.home().join(".ssh/tunnel.d/hula.atlas.conf");
    assert_eq!(read(&file), printed);
    let settings = line(&laptop, "ssh -G 333.hula.atlas").success().stdout;
    for setting in [
        "stricthostkeychecking ask",
        "identitiesonly yes",
        "user somebody",
    ] {
        assert!(settings.lines().any(|line| line == setting), "{settings}");
    }
    let elsewhere = line(&laptop, "ssh -G elsewhere.example").success().stdout;
    assert!(
        !elsewhere.contains("proxycommand") && elsewhere.contains("user somebody"),
        "{elsewhere}"
    );
    line(&laptop, "tunnel ssh-config --remove").success();
    assert_eq!(read(&laptop.home().join(".ssh/config")), mine);
    assert!(!laptop.home().join(".ssh/tunnel.d").exists());
    let again = line(&laptop, "tunnel ssh-config --remove").success();
    assert!(again.stderr.contains("knew nothing"), "{}", again.report());
}

#[test]
fn what_is_installed_is_taken_away_when_the_controller_is_gone_or_broken() {
    let world = World::new();
    let controller = world.enroll_alone("hula", "controller-a");
    let laptop = Laptop::new(&world, &controller);
    let mine = "Host *\n  User somebody\n";
    let (config, folder) = (".ssh/config", ".ssh/tunnel.d");
    let (config, folder) = (laptop.home().join(config), laptop.home().join(folder));
    for loss in ["rm -r \"$TUNNEL_DIR\"/*", "rm -r \"$TUNNEL_DIR\""] {
        write_config(&laptop, mine);
        line(&laptop, "tunnel ssh-config --install").success();
        let broken = "printf 'no realm' > \"$TUNNEL_DIR/realm.toml\"";
        let elsewhere = "tunnel --dir /elsewhere ssh-config --remove";
        let removed = line(&laptop, &format!("{broken}; {elsewhere}")).success();
        let said =
            "ssh knew nothing of `/elsewhere`\nit knows `hula.atlas`, by another directory: ";
        assert!(removed.stderr.starts_with(said), "{}", removed.report());
        assert!(folder.exists());
        let removed = line(&laptop, &format!("{loss}; tunnel ssh-config --remove")).success();
        let files = removed
            .stderr
            .replace(&*laptop.home().to_string_lossy(), "~");
        assert_eq!(
            files,
            "ssh knows nothing of `hula.atlas` any more: `~/.ssh/tunnel.d/hula.atlas.conf` is removed\n\
             `Include tunnel.d/*.conf` is removed from `~/.ssh/config`\n"
        );
        assert_eq!(read(&config), mine);
        assert!(!folder.exists());
        for entry in fs::read_dir(controller.dir()).unwrap() {
            let from = entry.unwrap().path();
            fs::create_dir_all(laptop.dir()).unwrap();
            fs::copy(&from, laptop.dir().join(from.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_directory_takes_away_what_it_has_installed_and_nothing_of_another_one() {
    let world = World::new();
    let (hula, lava, other) = {
        let _signer = world.signer();
        (
            world.enroll("hula", "controller-a"),
            world.enroll("lava", "controller-a"),
            world.enroll("hula", "controller-b"),
        )
    };
    let laptop = Laptop::new(&world, &hula);
    let file = |name: &str| {
        laptop
            .home()
            .join(".ssh/tunnel.d")
            .join(format!("{name}.conf"))
    };
    let remove = |device: &e2e::Device| {
        let dir = device.dir().display();
        line(&laptop, &format!("tunnel --dir {dir} ssh-config --remove")).success()
    };
    let install = |device: &e2e::Device| {
        let dir = device.dir().display();
        line(&laptop, &format!("tunnel --dir {dir} ssh-config --install")).success();
    };
    // Two controllers of one system: the later one's settings are there.
    install(&hula);
    install(&other);
    let removed = remove(&hula);
    let said = "it knows `hula.atlas`, by another directory: ";
    assert!(removed.stderr.contains(said), "{}", removed.report());
    assert!(file("hula.atlas").exists());
    // A directory that was one system's, and is another's.
    install(&lava);
    let text = read(&file("lava.atlas"));
    let moved = text.replace(
        &*lava.dir().to_string_lossy(),
        &other.dir().to_string_lossy(),
    );
    assert_ne!(moved, text);
    fs::write(file("lava.atlas"), moved).unwrap();
    let removed = remove(&other);
    for name in ["hula.atlas", "lava.atlas"] {
        assert!(!file(name).exists(), "{}", removed.report());
    }
    assert!(!removed.stderr.contains("another"), "{}", removed.report());
}

#[test]
fn a_link_into_somebody_elses_file_is_refused_with_what_to_do() {
    let job = Job::start();
    let laptop = Laptop::new(&job.world, &job.controller);
    write_config(&laptop, "");
    let config = laptop.home().join(".ssh/config");
    let foreign = job.world.path("foreign");
    fs::write(&foreign, "Host x\n").unwrap();
    fs::remove_file(&config).unwrap();
    symlink(&foreign, &config).unwrap();
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("1").arg(&foreign), CEILING).success();
        let outcome = line(&laptop, "tunnel ssh-config --install");
        assert_eq!(outcome.code, Some(78), "{}", outcome.report());
        let errors = outcome.lines("error");
        assert!(errors[0].ends_with("is not this user's own"), "{errors:?}");
        assert!(
            outcome.lines("hint")[0].contains("tunnel ssh-config"),
            "{}",
            outcome.report()
        );
        assert_eq!(read(&foreign), "Host x\n");
        run(Command::new("chown").arg("0").arg(&foreign), CEILING).success();
    }
    line(&laptop, "tunnel ssh-config --install").success();
    assert!(config.is_symlink());
    assert_eq!(read(&foreign), "Include tunnel.d/*.conf\nHost x\n");
}
