//! Files that are not as they should be, one after the other, and what is said of each.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::{Device, World};

use super::book::Book;
use super::breaking::Break;
use super::errors::settings;

#[test]
fn a_device_whose_files_are_wrong() {
    let world = World::new();
    let device = world.enroll_alone("hula", "333");
    let mut book = Book::of(&world);
    let agent = || world.tunnel_as(&device, &["agent", "--check"]);
    let realm = device.dir().join("realm.toml");
    for (what, from, to) in [
        ("a realm.toml of tomorrow", "version = 1", "version = 9"),
        (
            "a QoS that nobody has",
            "[broker]",
            "[broker]\nsubscribe_qos = 2",
        ),
        (
            "a proxy without a key",
            "host_keys = [",
            "host_keys = [] # [",
        ),
        ("a key that is none", "\"ssh-ed25519 ", "\"ssh-ed25519 no"),
        (
            "an authority that is none",
            "-----BEGIN CERTIFICATE",
            "-----BEGIN NOTHING",
        ),
    ] {
        book.with(what, Break::edit(&realm, from, to), &mut agent());
    }
    let own = device.dir().join("device.toml");
    let mut services = "[services]\n".to_owned();
    for number in 0..17 {
        let _ = writeln!(services, "s{number} = \"127.0.0.1:1\"");
    }
    for (what, text) in [
        (
            "a hook that is no path",
            "[hooks]\nup = [\"ip\", \"addr\"]\n",
        ),
        (
            "another service that is built in",
            "[services]\nweb = \"builtin\"\n",
        ),
        (
            "a service of no name",
            "[services]\nWeb = \"127.0.0.1:80\"\n",
        ),
        ("a time without a unit", "grace_period = \"10\"\n"),
        ("too many services", &services),
    ] {
        book.with(what, Break::append(&own, text), &mut agent());
    }
    let original = device.dir().join("properties.txt");
    book.with("no text", Break::to(&own, b"\xff\xfe"), &mut agent());
    let long = vec![b'#'; 1 << 21];
    book.with("too much text", Break::to(&own, &long), &mut agent());
    let aside = Break::gone(&own);
    for (what, text) in [
        (
            "an original's file without a name",
            "REALM=atlas\nSYSTEM=hula\n",
        ),
        (
            "a name that is none",
            "REALM=atlas\nSYSTEM=Hula\nDEVICE=333\n",
        ),
        ("another realm's", "REALM=lava\nSYSTEM=hula\nDEVICE=333\n"),
    ] {
        let text = Break::to(&original, text.as_bytes());
        book.with(what, text, &mut agent());
    }
    drop(aside);
    for key in [device.tls_key(), device.ssh_key(), device.certificate()] {
        book.with(
            "neither key nor certificate",
            Break::to(&key, b"nothing\n"),
            &mut agent(),
        );
    }
    let nobody = Break::append(&own, "[services]\nssh = \"127.0.0.1:1\"\n");
    let mut doctor = world.tunnel_as(&device, &["doctor"]);
    book.with("neither realm nor sshd", nobody, &mut doctor);
    refused_to_a_device(&world, &device, &mut book);
    settings().bind(|| insta::assert_snapshot!("a-device-whose-files-are-wrong", book.text()));
}

/// What another device, another user or another name would be needed for.
fn refused_to_a_device(world: &World, device: &Device, book: &mut Book) {
    let realm = world.realm().join("realm.toml").display().to_string();
    let taken = world.path("taken").display().to_string();
    for (what, words) in [
        (
            "another device from a device",
            &["doctor", "--json", "444"][..],
        ),
        (
            "no such user",
            &["agent", "sync-keys", "--user", "nobody-here"],
        ),
        (
            "a second name",
            &["enroll", "hula", "444", "--realm", &realm, "--wait", "0s"],
        ),
        (
            "a name that is taken",
            &[
                "enroll",
                "hula",
                "333",
                "--no-proof",
                "--wait",
                "0s",
                "--realm",
                &realm,
                "--dir",
                &taken,
            ],
        ),
    ] {
        book.with(what, Break::nothing(), &mut world.tunnel_as(device, words));
    }
}

#[test]
fn a_controller_whose_files_are_wrong() {
    let world = World::new();
    let controller = world.enroll_alone("hula", "controller-a");
    let mut book = Book::of(&world);
    let typed = |words: &[&str]| world.tunnel_as(&controller, words);
    let realm = controller.dir().join("realm.toml");
    let connect = ["connect", "--port", "61000", "you@333", "--", "true"];
    book.with("no proxy there", Break::nothing(), &mut typed(&connect));
    let no_key = Break::edit(&realm, "\"ssh-ed25519 ", "\"ssh-ed25519 no");
    book.with("a proxy's key that is none", no_key, &mut typed(&connect));
    let always_on = "[ports]\nhula = { start = 61000, end = 61999, always_on = true }\n";
    for words in [
        &["list"][..],
        &["disconnect", "333"],
        &["stdio", "333", "web"],
    ] {
        let always_on = Break::append(&realm, always_on);
        book.with("tunnels that are always on", always_on, &mut typed(words));
    }
    let mut bare = typed(&["connect", "-L", "1:a:1", "you@333"]);
    book.with("no ssh", Break::nothing(), bare.env("PATH", "/nowhere"));
    for (what, words) in [
        ("a controller's agent", &["agent", "--check"][..]),
        ("a service of no name", &["stdio", "333", "Not!"]),
        ("a service of no name", &["forward", "333", "8080:Not!"]),
        ("no stream", &["fdpass", "/nowhere"]),
        ("a registry without logins", &["registry", "login"]),
        ("half a title", &["registry", "show", "333.hula.atlas"]),
        ("half a title", &["registry", "show", "333.sshkey.pub"]),
    ] {
        book.with(what, Break::nothing(), &mut typed(words));
    }
    settings().bind(|| insta::assert_snapshot!("a-controller-whose-files-are-wrong", book.text()));
}

#[test]
fn a_realm_whose_files_are_wrong() {
    let world = World::new();
    let mut book = Book::of(&world);
    let realm = world.realm();
    let typed = |words: &[&str]| -> Command {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(&realm);
        command
    };
    for (file, what, text) in [
        ("revoked.toml", "no list", "revoked = yes\n"),
        ("revoked.toml", "a list of tomorrow", "version = 9\n"),
        ("trust.toml", "no rules", "trust = \"everybody\"\n"),
        (
            "trust.toml",
            "a rule for nobody",
            "version = 1\n[[upload]]\nwho = \"octo\"\nsystems = [\"*\"]\nwhat = \"all\"\n",
        ),
        ("permissions.txt", "a key of one half", "hula=allow\n"),
        (
            "permissions.txt",
            "neither yes nor no",
            "hula+octo=perhaps\n",
        ),
        ("ca/ca.key", "no key", "nothing\n"),
        ("ca/ca.cert", "no certificate", "nothing\n"),
        ("broker/server.key", "no key", "nothing\n"),
        ("broker/server.cert", "no certificate", "nothing\n"),
        ("proxy/hostkey", "no key", "nothing\n"),
        ("policies/tunnel.target.json", "no policy", "{}\n"),
        (
            "policies/tunnel.everybody.json",
            "a policy for nobody",
            "{}\n",
        ),
        ("ca/crl.pem", "no PEM", "nothing\n"),
        (
            "ca/crl.pem",
            "no list",
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ),
    ] {
        let broken = Break::to(&realm.join(file), text.as_bytes());
        let what = format!("{what} in {file}");
        book.with(&what, broken, &mut typed(&["serve", "--check"]));
    }
    let open = Break::mode(&realm.join("trust.toml"), 0o666);
    book.with(
        "rules that anybody writes",
        open,
        &mut typed(&["serve", "--check"]),
    );
    let file = realm.join("realm.toml");
    let others = "host_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZcumSzPm+oqEHLFSDpKTZ33xfjD8EtBE9lulkjrcxm\"] # [";
    for (what, from, to, words) in [
        (
            "a realm.toml of tomorrow",
            "version = 1",
            "version = 9",
            &["serve", "--check"][..],
        ),
        (
            "an authority that is none",
            "-----BEGIN CERTIFICATE",
            "-----BEGIN NOTHING",
            &["broker", "--check"],
        ),
        (
            "no key of the proxy's",
            "host_keys = [",
            "host_keys = [] # [",
            &["serve", "--check"],
        ),
        (
            "another proxy's key",
            "host_keys = [",
            others,
            &["proxy", "host-key", "next"],
        ),
    ] {
        book.with(what, Break::edit(&file, from, to), &mut typed(words));
    }
    without_an_authority_or_a_host_key(&world, &mut book);
    book.with(
        "keys that need no way",
        Break::nothing(),
        &mut typed(&["proxy", "sync"]),
    );
    let init = ["realm", "init", "atlas", "--proxy", "127.0.0.1"];
    book.with("half a realm", Break::gone(&file), &mut typed(&init));
    let _signer = world.signer();
    let once = ["signer", "run", "--once"];
    book.with("a signer that runs", Break::nothing(), &mut typed(&once));
    settings().bind(|| insta::assert_snapshot!("a-realm-whose-files-are-wrong", book.text()));
}

fn without_an_authority_or_a_host_key(world: &World, book: &mut Book) {
    let realm = world.realm();
    let typed = |words: &[&str]| -> Command {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(&realm);
        command
    };
    let aws = Break::append(
        &realm.join("server.toml"),
        "[signer.aws]\nregion = \"eu-central-1\"\n",
    );
    book.with(
        "two who sign",
        aws,
        &mut typed(&["signer", "run", "--check"]),
    );
    let no_key = Break::gone(&realm.join("proxy/hostkey"));
    book.with("no host key", no_key, &mut typed(&["serve", "--check"]));
}

#[test]
fn a_realm_that_is_made_wrongly() {
    let world = World::new();
    let mut book = Book::of(&world);
    let typed = |words: &[&str], dir: &Path| {
        let mut command = world.tunnel();
        command.args(words).arg("--dir").arg(dir);
        command
    };
    for host in ["a b", "127.0.0.1:2222", "under_score.example"] {
        let mut init = typed(
            &["realm", "init", "lava", "--proxy", host],
            &world.path("lava"),
        );
        book.with("a host that is none", Break::nothing(), &mut init);
    }
    let (encrypted, passphrase) = (world.path("encrypted"), world.path("passphrase"));
    let init = [
        "realm",
        "init",
        "lava",
        "--proxy",
        "127.0.0.1",
        "--encrypt-ca",
    ];
    let check = ["signer", "run", "--check"];
    for (what, text, words) in [
        ("no passphrase", None, &init[..]),
        ("a short one", Some("short\n"), &init),
        ("a good one", Some("long enough for it\n"), &init),
        ("none for a key that has one", None, &check),
        ("a wrong one", Some("long enough, and wrong\n"), &check),
    ] {
        let mut command = typed(words, &encrypted);
        if let Some(text) = text {
            fs::write(&passphrase, text).unwrap();
            fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
            command.env("TUNNEL_CA_PASSPHRASE_FILE", &passphrase);
        }
        book.with(what, Break::nothing(), &mut command);
    }
    let (system, host_keys) = (world.path("system.txt"), world.path("host-keys"));
    let key = fs::read_to_string(world.realm().join("proxy/hostkey.pub")).unwrap();
    fs::write(&host_keys, format!("127.0.0.1 {key}")).unwrap();
    let mut import = world.tunnel();
    import.args(["realm", "import"]).arg(&system);
    let half = Break::to(&system, b"REALM=atlas\n");
    book.with("an original's file of half a realm", half, &mut import);
    for (option, file) in [
        ("--ca", world.realm().join("ca/ca.cert")),
        ("--host-keys", host_keys),
        ("--out", world.path("imported.toml")),
    ] {
        import.arg(option).arg(file);
    }
    for (what, realm) in [
        ("a name that is none", "Atlas"),
        ("a whole one", "atlas"),
        ("the same again", "atlas"),
    ] {
        let rest = "BROKER=127.0.0.1\nPROXY=127.0.0.1\nISSUES=octo/atlas\n";
        let text = format!("REALM={realm}\n{rest}");
        book.with(what, Break::to(&system, text.as_bytes()), &mut import);
    }
    settings().bind(|| insta::assert_snapshot!("a-realm-that-is-made-wrongly", book.text()));
}
