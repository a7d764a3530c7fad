//! Files: scp, sftp, rsync and git.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{CEILING, checksum, random_file, run, tool};

use super::House;

#[test]
fn scp_copies_both_ways_by_either_protocol() {
    let house = House::start();
    let (sent, there, back) = (house.path("sent"), house.path("there"), house.path("back"));
    random_file(&sent, 30 << 20);
    fs::set_permissions(&sent, fs::Permissions::from_mode(0o640)).unwrap();
    for protocol in ["-s", "-O"] {
        let remote = format!("333:{}", there.display());
        let mut up = house.stock("scp");
        up.args([protocol, "-p"]).arg(&sent).arg(&remote);
        run(&mut up, CEILING).success();
        assert_eq!(checksum(&there), checksum(&sent), "{protocol}");
        let mode = fs::metadata(&there).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{protocol}");
        let mut down = house.stock("scp");
        down.arg(protocol).arg(&remote).arg(&back);
        run(&mut down, CEILING).success();
        assert_eq!(checksum(&back), checksum(&sent), "{protocol}");
        fs::remove_file(&there).unwrap();
        fs::remove_file(&back).unwrap();
    }
    let mut missing = house.stock("scp");
    missing.arg(format!("333:{}", there.display())).arg(&back);
    let outcome = run(&mut missing, CEILING);
    assert_eq!(outcome.code, Some(1), "{}", outcome.report());
    assert!(
        outcome.stderr.contains("No such file or directory"),
        "{}",
        outcome.report()
    );
}

#[test]
fn scp_copies_a_tree() {
    let house = House::start();
    let tree = house.path("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/one"), "1").unwrap();
    fs::write(tree.join("a/with space"), "2").unwrap();
    let mut up = house.stock("scp");
    let copy = house.path("copy");
    up.arg("-r")
        .arg(&tree)
        .arg(format!("333:{}", copy.display()));
    run(&mut up, CEILING).success();
    assert_eq!(fs::read(copy.join("a/b/one")).unwrap(), b"1");
    assert_eq!(fs::read(copy.join("a/with space")).unwrap(), b"2");
}

#[test]
fn sftp_does_what_people_type() {
    let house = House::start();
    let folder = house.path("folder");
    let local = house.path("local");
    random_file(&local, 5 << 20);
    let batch = house.path("batch");
    let text = format!(
        "mkdir {0}\ncd {0}\npwd\nput {1} first\nchmod 600 first\nln -s first link\nrename first second\n\
         ls -l\ndf -h\n-rm missing\nget second {1}.back\nrm link\nln second hard\nls -1\n",
        folder.display(),
        local.display()
    );
    fs::write(&batch, text).unwrap();
    let mut sftp = house.stock("sftp");
    sftp.arg("-b").arg(&batch).arg("333");
    let said = run(&mut sftp, CEILING).success();
    let back = house.path("local.back");
    assert_eq!(checksum(&back), checksum(&local));
    let mode = fs::metadata(folder.join("second"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for shown in [
        "Remote working directory: ",
        "-rw-------",
        "lrwxrwxrwx",
        "%",
    ] {
        assert!(said.stdout.contains(shown), "{shown} in\n{}", said.report());
    }
    assert!(
        said.stdout.ends_with("\nhard\nsecond\n"),
        "{}",
        said.report()
    );
    assert!(!folder.join("link").exists() && folder.join("hard").exists());
}

#[test]
fn rsync_brings_a_tree_and_then_nothing() {
    let house = House::start();
    let tree = house.path("tree");
    fs::create_dir_all(tree.join("a")).unwrap();
    random_file(&tree.join("a/big"), 10 << 20);
    fs::write(tree.join("small"), "x").unwrap();
    let script = house.ssh_script();
    let bring = || {
        let mut rsync = Command::new(tool("rsync"));
        house.world.mark(&mut rsync);
        rsync
            .args(["-a", "--stats", "-e"])
            .arg(&script)
            .arg(format!("{}/", tree.display()))
            .arg(format!("333:{}/", house.path("copy").display()));
        run(&mut rsync, CEILING * 2).success().stdout
    };
    let first = bring();
    assert!(
        first.contains("Number of created files: 4")
            || first.contains("Number of created files: 3"),
        "{first}"
    );
    let copied = checksum(&house.path("copy/a/big"));
    assert_eq!(copied, checksum(&tree.join("a/big")));
    let second = bring();
    assert!(
        second.contains("Number of regular files transferred: 0"),
        "{second}"
    );
}

#[test]
fn git_clones_over_it() {
    let house = House::start();
    let repository = house.path("repository");
    let git = |words: &[&str]| {
        let mut git = Command::new(tool("git"));
        house.world.mark(&mut git);
        git.env("GIT_SSH", house.ssh_script())
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=n", "-c", "user.email=e@example.org"])
            .args(words);
        run(&mut git, CEILING * 2).success()
    };
    let there = repository.to_str().unwrap();
    git(&["init", "-q", there]);
    fs::write(repository.join("file"), "content\n").unwrap();
    git(&["-C", there, "add", "file"]);
    git(&["-C", there, "commit", "-qm", "one"]);
    let clone = house.path("clone");
    // The repository is the remote user's own; git asks since it knows nothing of who cloned it.
    let url = format!("333:{there}");
    git(&["clone", "-q", &url, clone.to_str().unwrap()]);
    assert_eq!(fs::read(clone.join("file")).unwrap(), b"content\n");
}
