//! Errors, each with its causes, its hint and its exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{CEILING, World, wait_until};

use super::book::Book;
use crate::main_job::Job;

#[test]
fn before_anything_is_there() {
    let world = World::new();
    let mut book = Book::of(&world);
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    for words in [
        &["agent"][..],
        &["agent", "--check"],
        &["connect", "you@333"],
        &["stdio", "333"],
        &["forward", "333", "web"],
        &["list"],
        &["disconnect", "333"],
        &["enroll"],
        &["enroll", "hula", "333"],
        &["enroll", "hula", "333", "--realm", "none.toml"],
        &["enroll", "hula", "Not-A-Name"],
        &["serve"],
        &["broker"],
        &["proxy"],
        &["proxy", "host-key"],
        &["signer", "run", "--once"],
        &["signer", "list"],
        &["signer", "revoke", "333"],
        &["registry", "list"],
        &["policies", "mosquitto"],
        &["realm", "import", "system.txt"],
        &["connect"],
        &["no-such-command"],
    ] {
        let mut command = world.tunnel();
        book.type_in(
            command
                .args(words)
                .env("TUNNEL_DIR", &empty)
                .current_dir(&empty),
        );
    }
    let mut command = world.tunnel();
    book.type_in(
        command
            .arg("list")
            .env("TUNNEL_LOG", "((")
            .env("TUNNEL_DIR", &empty),
    );
    settings().bind(|| insta::assert_snapshot!("before-anything-is-there", book.text()));
}

#[test]
fn around_a_realm() {
    let world = World::new();
    let mut book = Book::of(&world);
    let realm = world.realm();
    let at = |words: &[&str]| -> Command {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(&realm);
        command
    };
    book.type_in(&mut at(&["realm", "init", "atlas", "--proxy", "127.0.0.1"]));
    for word in ["retire", "switch"] {
        book.type_in(&mut at(&["proxy", "host-key", word]));
    }
    book.type_in(&mut at(&["signer", "revoke", "333.hula.other"]));
    book.type_in(&mut at(&["signer", "readmit", "333.hula.atlas"]));
    book.type_in(&mut at(&["registry", "show", "333.hula.atlas.x509.cert"]));
    book.type_in(&mut at(&["serve", "--check", "--metrics", "10.0.0.1:9464"]));
    let server = realm.join("server.toml");
    let text = fs::read_to_string(&server).unwrap();
    fs::write(&server, format!("metric = 1\n{text}")).unwrap();
    book.type_in(&mut at(&["serve", "--check"]));
    fs::write(&server, text).unwrap();
    {
        let _serve = world.serve();
        book.type_in(&mut at(&["broker"]));
        book.type_in(&mut at(&["proxy"]));
    }
    let key = realm.join("broker/server.key");
    if key.exists() {
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        book.type_in(&mut at(&["serve", "--check"]));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(realm.join("realm.toml"), "realm = 'atlas'\n").unwrap();
    book.type_in(&mut at(&["serve", "--check"]));
    settings().bind(|| insta::assert_snapshot!("around-a-realm", book.text()));
}

#[test]
fn on_the_way_to_a_computer() {
    let mut job = Job::start();
    let world = &job.world;
    let mut book = Book::of(world);
    let controller = |words: &[&str]| world.tunnel_as(&job.controller, words);
    for words in [
        &["connect", "you@444", "--", "true"][..],
        &["connect", "you@444.lava", "--", "true"],
        &["connect", "you@333.hula.other", "--", "true"],
        &["stdio", "333", "web"],
        &["forward", "333", "8080:web"],
        &["forward", "333", "0:ssh"],
        &["disconnect", "444"],
    ] {
        book.type_in(&mut controller(words));
    }
    // On a laptop that has no ssh.
    for who in ["333", "nobody-here@333"] {
        let mut connect = controller(&["connect", who, "--", "true"]);
        let bare = connect.env("PATH", "/nowhere").env_remove("USER");
        book.type_in(bare.env_remove("LOGNAME"));
    }
    let known_hosts = job.controller.dir().join("known_hosts");
    fs::write(&known_hosts, "333.hula.atlas ssh-ed25519 nothing\n").unwrap();
    book.type_in(&mut controller(&["connect", "you@333", "--", "true"]));
    fs::remove_file(known_hosts).unwrap();
    let device = |words: &[&str]| world.tunnel_as(&job.device, words);
    for words in [
        &["agent"][..],
        &["list"],
        &["connect", "you@333", "--", "true"],
    ] {
        book.type_in(&mut device(words));
    }
    let agent = job.agent.take().unwrap();
    agent.terminate();
    world.wait_for_presence(&job.controller, &job.device, false);
    book.type_in(&mut controller(&["connect", "you@333", "--", "true"]));
    book.type_in(&mut controller(&["disconnect", "333"]));
    let key = job.device.tls_key();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    book.type_in(&mut device(&["agent", "--check"]));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = job.device.dir().join("device.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (from, to) in [
        ("grace_period", "graceperiod"),
        ("\"1s\"", "1"),
        ("127.0.0.1:", "127.0.0.1"),
    ] {
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        book.type_in(&mut device(&["agent", "--check"]));
    }
    fs::write(&file, format!("metrics = \"0.0.0.0:9464\"\n{text}")).unwrap();
    book.type_in(&mut device(&["agent", "--check"]));
    fs::remove_file(job.device.certificate()).unwrap();
    fs::write(&file, text).unwrap();
    book.type_in(&mut device(&["agent", "--check"]));
    job.serve.take().unwrap().kill();
    wait_until("the broker to be gone", CEILING, || {
        if e2e::is_listening(world.broker_port()) {
            Err("it listens".to_owned())
        } else {
            Ok(())
        }
    });
    // Broker and proxy are met at once: with both away it would be either that is told first.
    let _proxy = world.proxy();
    book.type_in(&mut controller(&["list"]));
    book.type_in(&mut controller(&["connect", "you@333", "--", "true"]));
    // The port of the device's own sshd, in lines of its file.
    let address = job.sshd.address();
    let port = address.rsplit(':').next().unwrap();
    let text = book.text().replace(port, "22");
    settings().bind(|| insta::assert_snapshot!("on-the-way-to-a-computer", text));
}

pub(super) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}
