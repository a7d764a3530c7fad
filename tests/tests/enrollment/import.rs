//! The original's files, taken over as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, World, run, tool};

#[test]
fn an_originals_folder_is_enrolled_with_its_own_keys() {
    for traditional in [false, true] {
        let world = World::new();
        let _serve = world.serve();
        let folder = world.path("original");
        original_folder(&folder, traditional);
        fs::copy(world.realm().join("realm.toml"), folder.join("realm.toml")).unwrap();
        let before = keys(&folder);
        let mut enroll = world.tunnel();
        enroll
            .args(["enroll", "--wait", "30s", "--dir"])
            .arg(&folder);
        let outcome = run(&mut enroll, CEILING).success();
        assert!(
            outcome.stderr.contains("takes the certificate"),
            "{}",
            outcome.report()
        );
        assert_eq!(keys(&folder), before, "its keys are used and not replaced");
        let certificate = fs::read_to_string(folder.join("333.hula.atlas.x509.cert")).unwrap();
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(
            !folder.join("device.toml").exists(),
            "`properties.txt` says it all"
        );
        let mut check = world.tunnel();
        check.args(["agent", "--check", "--dir"]).arg(&folder);
        let checked = run(&mut check, CEILING).success();
        assert!(
            checked.stdout.contains("333.hula.atlas"),
            "{}",
            checked.report()
        );
    }
}

#[test]
fn a_folder_of_another_realm_is_refused() {
    let world = World::new();
    let folder = world.path("original");
    fs::create_dir(&folder).unwrap();
    fs::copy(world.realm().join("realm.toml"), folder.join("realm.toml")).unwrap();
    fs::write(
        folder.join("properties.txt"),
        "REALM=other\nSYSTEM=hula\nDEVICE=333\n",
    )
    .unwrap();
    let mut check = world.tunnel();
    check.args(["agent", "--check", "--dir"]).arg(&folder);
    let outcome = run(&mut check, CEILING);
    assert_eq!(outcome.code, Some(78), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("is of realm `other`"),
        "{}",
        outcome.report()
    );
}

#[test]
fn the_originals_system_file_becomes_a_realm_file() {
    let world = World::new();
    let (system, out) = (world.path("system.txt"), world.path("imported.toml"));
    let text = "REALM=atlas\nPROXY=proxy.example.org\nISSUES=octo/tunnels\nCLIENTID_SUFFIX=.example.org\nBROKER=broker.example.org\nALLOCATION_START_hula=50000\nALLOCATION_END_hula=50999\n";
    fs::write(&system, text).unwrap();
    let import = |more: &[&str]| {
        let mut command = world.tunnel();
        command
            .args(["realm", "import"])
            .arg(&system)
            .arg("--out")
            .arg(&out)
            .args(more);
        run(&mut command, CEILING)
    };
    let incomplete = import(&[]);
    assert_eq!(incomplete.code, Some(78), "{}", incomplete.report());
    for lack in ["--ca", "--host-keys"] {
        assert!(
            incomplete.lines("error")[0].contains(lack),
            "{}",
            incomplete.report()
        );
    }
    assert!(
        incomplete
            .stdout
            .contains("address = \"broker.example.org:8883\""),
        "{}",
        incomplete.stdout
    );
    assert!(!out.exists());

    let ca = world.realm().join("ca/ca.cert");
    let (ca, keys) = (ca.to_str().unwrap(), world.path("keys"));
    let key = fs::read_to_string(world.realm().join("proxy/hostkey.pub")).unwrap();
    fs::write(&keys, format!("# scanned\nproxy.example.org {key}")).unwrap();
    let complete = ["--ca", ca, "--host-keys", keys.to_str().unwrap()];
    import(&complete).success();
    let made = fs::read_to_string(&out).unwrap();
    for part in [
        "realm = \"atlas\"",
        "github = \"octo/tunnels\"",
        "proxy.example.org:22",
        "start = 50000",
        "ssh-ed25519 AAAA",
    ] {
        assert!(made.contains(part), "{part}: {made}");
    }
    assert_eq!(
        import(&complete).code,
        Some(78),
        "what is there is not overwritten"
    );
}

/// What `prepare`, `ssh-keygen` and `x509-keygen` of the original leave.
fn original_folder(folder: &Path, traditional: bool) {
    fs::create_dir(folder).unwrap();
    let at = |name: &str| folder.join(name);
    let id = "333.hula.atlas";
    let properties = format!(
        "REALM=atlas\nSYSTEM=hula\nDEVICE=333\nbroker=127.0.0.1\nallocationStartRandom=61000\n\
         control=atlas/hula/333/tunnel/control\nstate=atlas/hula/333/tunnel/state\nclientId={id}\nshortId={id}\n\
         certificate={id}.x509.cert\ncertificateRequest={id}.x509.csr\nprivateKey={id}.x509.key\n\
         sshPrivateKey={id}.sshkey\nsshPublicKey={id}.sshkey.pub\nsshProxyHost=127.0.0.1\nsshProxyUser=hula\n\
         sshProxyKey={id}.sshkey\nsshProxyPort=-1\n"
    );
    fs::write(at("properties.txt"), properties).unwrap();
    let mut keygen = Command::new(tool("ssh-keygen"));
    keygen
        .args(["-q", "-t", "rsa", "-b", "3072", "-N", "", "-C", id, "-f"])
        .arg(at("333.hula.atlas.sshkey"));
    run(&mut keygen, CEILING).success();
    let key = at("333.hula.atlas.x509.key");
    let mut request = Command::new(tool("openssl"));
    request
        .args([
            "req",
            "-subj",
            "/CN=333.hula.atlas/OU=333/O=hula",
            "-newkey",
            "rsa:4096",
            "-nodes",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(at("333.hula.atlas.x509.csr"));
    run(&mut request, CEILING).success();
    if traditional {
        let old = at("old");
        let mut convert = Command::new(tool("openssl"));
        convert
            .args(["rsa", "-traditional", "-in"])
            .arg(&key)
            .arg("-out")
            .arg(&old);
        run(&mut convert, CEILING).success();
        fs::rename(&old, &key).unwrap();
        assert!(
            fs::read_to_string(&key)
                .unwrap()
                .starts_with("-----BEGIN RSA PRIVATE KEY-----")
        );
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
}

fn keys(folder: &Path) -> Vec<String> {
    ["sshkey", "sshkey.pub", "x509.key"]
        .iter()
        .map(|kind| fs::read_to_string(folder.join(format!("333.hula.atlas.{kind}"))).unwrap())
        .collect()
}
