//! A stock sshd as the proxy: what the lines of `tunnel proxy sync --openssh` allow, and how they are written.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

use e2e::{CEILING, EchoServer, ReservedPort, Sshd, current_user, is_listening, run, wait_until};

use super::openssh_stage::{Stock, greeter};

#[test]
fn each_key_does_its_own_and_nothing_else() {
    let mut stock = Stock::start();
    stock.sync().success();
    stock.house.start_sshd(&stock.world);
    let (port, other) = (stock.port.number(), stock.other.number());
    let (target, controller) = (stock.target.ssh_key(), stock.controller.ssh_key());
    assert!(target.exists() && controller.exists());

    // The target's own port, and another system's target on its own.
    let echo = EchoServer::start();
    let own = format!("{port}:{}", echo.address());
    let foreign = format!("{other}:{}", echo.address());
    let _own = stock.forward("own", &stock.target, "hula", &["-R", &own]);
    let _foreign = stock.forward("foreign", &stock.stranger, "tau", &["-R", &foreign]);
    for (port, name) in [(port, "own"), (other, "foreign")] {
        wait_until(&format!("the {name} port"), CEILING, || {
            is_listening(port)
                .then_some(())
                .ok_or_else(|| "not yet".to_owned())
        });
    }

    // The controller reaches its own system's port, and no other.
    assert_eq!(stock.through(&format!("localhost:{port}")), "hello");
    assert_eq!(stock.through(&format!("localhost:{other}")), "");
    assert_eq!(
        stock.through(&format!("localhost:{}", echo_port(&echo))),
        ""
    );

    // Nobody gets anything else.
    let reserved = ReservedPort::take();
    let free = reserved.number();
    // Where every user may make a socket, and reach one: what refuses it is to be sshd alone.
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let socket = open.path().join("stray.sock");
    let listens = [
        format!("{}:localhost:22", port + 1),
        "0:localhost:22".to_owned(),
        format!("0.0.0.0:{port}:localhost:22"),
        format!("{other}:localhost:22"),
        format!("{}:localhost:22", socket.display()),
        "none.invalid:1:localhost:22".to_owned(),
        "1:localhost:22".to_owned(),
    ];
    for listen in &listens {
        let said = stock.refused("ssh", &stock.target, &["-N", "-R", listen], &[]);
        assert!(
            said.contains("remote port forwarding failed") || said.contains("forwarding failed"),
            "{listen}: {said}"
        );
        stock.refused("ssh", &stock.controller, &["-N", "-R", listen], &[]);
    }
    stock.refused(
        "ssh",
        &stock.controller,
        &["-N", "-R", &format!("{port}:localhost:22")],
        &[],
    );
    assert!(!socket.exists());
    stock.refused(
        "ssh",
        &stock.target,
        &["-W", &format!("localhost:{port}")],
        &[],
    );
    for device in [&stock.target, &stock.controller] {
        for words in [&["id"][..], &[], &["sh", "-c", "id"]] {
            let said = stock.refused("ssh", device, &["-T"], words);
            assert!(!said.contains("uid="), "{said}");
        }
        stock.refused("ssh", device, &["-tt"], &["id"]);
        stock.refused("sftp", device, &["-b", "/dev/null"], &[]);
    }

    // A unix socket on the proxy is not to be reached either.
    let unix = open.path().join("service.sock");
    let greeted = greeter(&unix);
    let local = format!("{free}:{}", unix.display());
    let (text, end, said) = stock.greeting("unix", free, &local);
    assert!(text.is_empty(), "{text}");
    // Ended by sshd's answer, and not by our patience.
    assert!(
        matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{end:?}"
    );
    assert!(said.contains("open failed"), "{said}");
    assert_eq!(greeted.load(Ordering::SeqCst), 0);

    // Without the settings that came with the account the same does go through: it is they that refuse it, and no line can.
    let settings = "etc/ssh/sshd_config.d/tunnel-hula.conf";
    fs::remove_file(stock.world.path(settings)).unwrap();
    stock.house.start_sshd(&stock.world);
    let key = fs::read_to_string(stock.controller.ssh_public_key()).unwrap();
    let less = format!("restrict,port-forwarding {key}");
    fs::write(stock.keys_file("hula"), less).unwrap();
    let (text, _, said) = stock.greeting("less", free, &local);
    assert_eq!(text, "greetings", "{said}");
    assert_eq!(greeted.load(Ordering::SeqCst), 1);
    let listen = format!("{}:localhost:22", socket.display());
    let _listens = stock.forward("listens", &stock.controller, "hula", &["-R", &listen]);
    wait_until("the socket", CEILING, || {
        socket
            .exists()
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
}

#[test]
fn lines_come_and_go_among_lines_of_others() {
    let stock = Stock::start();
    let file = stock.keys_file("hula");
    let foreign = "# mine, without an end\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g me";
    fs::write(&file, foreign).unwrap();
    let home = fs::metadata(stock.house.home("hula")).unwrap();
    std::os::unix::fs::chown(&file, Some(home.uid()), Some(home.gid())).unwrap();

    stock.sync().success();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("{foreign}\nrestrict,")), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    let status = fs::metadata(&file).unwrap();
    assert_eq!((status.uid(), status.mode() & 0o7777), (home.uid(), 0o600));
    assert_ne!(home.uid(), 0);
    assert_eq!(
        fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o7777,
        0o700
    );

    let again = stock.sync().success();
    assert!(!again.stderr.contains("keys written"), "{}", again.stderr);
    for device in [&stock.target, &stock.controller] {
        let title = format!("{}.sshkey.pub", device.id());
        fs::remove_file(stock.world.realm().join("registry").join(title)).unwrap();
    }
    stock.sync().success();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{foreign}\n"));
}

#[test]
fn a_system_without_ports_has_no_lines_and_an_account_keeps_its_own() {
    let stock = Stock::start();
    let file = stock.keys_file("hula");
    stock.sync().success();
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    // Another realm's line in the same account, of a system that is called as its realm.
    let other = "ssh-ed25519 AAAA tunnel-sync:hula.hula\n";
    let ours = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{other}{ours}")).unwrap();
    stock.tunnel(&["proxy", "add-system", "hula"]).success();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{other}{ours}"));

    let realm = stock.world.realm().join("realm.toml");
    let text = fs::read_to_string(&realm).unwrap();
    let start = text.find("[ports.hula]").unwrap();
    let end = text.find("[ports.tau]").unwrap();
    fs::write(&realm, format!("{}{}", &text[..start], &text[end..])).unwrap();
    let refused = stock.sync();
    assert_eq!(refused.code, Some(1), "{}", refused.report());
    assert!(
        refused
            .stderr
            .contains("has no ports for the system `hula`"),
        "{}",
        refused.report()
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), other);

    // The same when it has no keys any more: nothing is left to complain of.
    fs::write(&file, format!("{other}{ours}")).unwrap();
    for device in [&stock.target, &stock.controller] {
        let title = format!("{}.sshkey.pub", device.id());
        fs::remove_file(stock.world.realm().join("registry").join(title)).unwrap();
    }
    stock.sync().success();
    assert_eq!(fs::read_to_string(&file).unwrap(), other);
}

#[test]
fn links_in_the_users_folder_lead_nowhere() {
    let stock = Stock::start();
    let folder = stock.house.home("hula").join(".ssh");
    let prize = stock.world.path("prize");
    fs::write(&prize, "root's own\n").unwrap();

    symlink(&prize, folder.join("authorized_keys")).unwrap();
    let refused = stock.sync();
    assert_eq!(refused.code, Some(1), "{}", refused.report());
    assert!(
        refused.stderr.contains("is not a regular file"),
        "{}",
        refused.report()
    );
    assert_eq!(fs::read_to_string(&prize).unwrap(), "root's own\n");
    // The other system is served all the same.
    assert!(
        fs::read_to_string(stock.keys_file("tau"))
            .unwrap()
            .contains("3.tau.atlas")
    );

    fs::remove_dir_all(&folder).unwrap();
    let treasury = stock.world.path("treasury");
    fs::create_dir(&treasury).unwrap();
    symlink(&treasury, &folder).unwrap();
    let refused = stock.sync();
    assert!(
        refused.stderr.contains("is not a directory"),
        "{}",
        refused.report()
    );
    assert_eq!(fs::read_dir(&treasury).unwrap().count(), 0);

    // A folder of somebody else's in its place is not written to, and root lends no hand.
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let refused = stock.sync();
    assert!(
        refused.stderr.contains("does not belong to the user"),
        "{}",
        refused.report()
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn an_account_is_made_once_and_nobody_elses_is_taken() {
    let stock = Stock::start();
    let again = stock.tunnel(&["proxy", "add-system", "hula"]).success();
    assert!(
        again.stdout.contains("is there already"),
        "{}",
        again.stdout
    );
    let passwd = fs::read_to_string(stock.world.path("etc/passwd")).unwrap();
    assert!(
        passwd.contains(":tunnel system hula:/home/hula:/usr/sbin/nologin"),
        "{passwd}"
    );
    let shadow = fs::read_to_string(stock.world.path("etc/shadow")).unwrap();
    assert!(
        shadow.lines().any(|line| line.starts_with("hula:*:")),
        "no password, and not locked"
    );

    let mut useradd = stock
        .house
        .inside(&stock.world, Path::new("/usr/sbin/useradd"));
    useradd.args(["--create-home", "person"]);
    run(&mut useradd, CEILING).success();
    let refused = stock.tunnel(&["proxy", "add-system", "person"]);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert!(refused.stderr.contains("--adopt"), "{}", refused.stderr);
    let system = stock.tunnel(&["proxy", "add-system", "daemon", "--adopt"]);
    assert_eq!(system.code, Some(78), "{}", system.report());
    stock
        .tunnel(&["proxy", "add-system", "person", "--adopt"])
        .success();

    // A system by the name of somebody's account does not get there by being in the registry.
    let key = fs::read_to_string(stock.target.ssh_public_key()).unwrap();
    let body = key.replace("3.hula.atlas", "3.root.atlas");
    let registry = stock.world.realm().join("registry");
    fs::remove_file(registry.join("3.hula.atlas.sshkey.pub")).unwrap();
    fs::write(registry.join("3.root.atlas.sshkey.pub"), body).unwrap();
    let refused = stock.sync();
    assert!(
        refused
            .stderr
            .contains("there is no account of the system `root`"),
        "{}",
        refused.report()
    );
}

#[test]
fn agent_and_controller_meet_at_a_stock_sshd() {
    let mut stock = Stock::start();
    stock.sync().success();
    stock.house.start_sshd(&stock.world);
    let _broker = stock.world.broker();
    let sshd = Sshd::start("sshd", stock.world.folder(), &stock.world.logs());
    stock.target.configure(&sshd, &[], "1s");
    sshd.authorize(&stock.controller);
    let _agent = stock.world.agent(&stock.target);
    stock
        .world
        .wait_for_presence(&stock.controller, &stock.target, true);
    let whom = format!("{}@3", current_user());
    let words = ["connect", &whom, "--", "echo", "through"];
    let outcome = stock.world.run_as(&stock.controller, &words).success();
    assert_eq!(outcome.stdout, "through\n");
    // The login that proves an enrollment works there too.
    let proved = stock
        .world
        .run_as(&stock.target, &["enroll", "--wait", "5s"])
        .success();
    assert!(
        proved.stderr.contains("takes the SSH key"),
        "{}",
        proved.report()
    );
}

fn echo_port(echo: &EchoServer) -> u16 {
    echo.address().rsplit(':').next().unwrap().parse().unwrap()
}
