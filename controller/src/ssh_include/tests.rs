use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const BLOCK: &str = "Host *.hula.atlas\n";

struct Home(tempfile::TempDir);

impl Home {
    fn with(config: Option<&[u8]>) -> (Self, SshInclude) {
        let home = Self(tempfile::tempdir().unwrap());
        let include = SshInclude::of_home(home.0.path());
        if let Some(config) = config {
            fs::create_dir(home.0.path().join(".ssh")).unwrap();
            fs::write(include.config(), config).unwrap();
        }
        (home, include)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_home_without_anything_gets_all_and_loses_all() {
    let (home, include) = Home::with(None);
    assert!(!include.remove("hula.atlas").unwrap().is_something());
    include.install("hula.atlas", BLOCK).unwrap();
    let first = fs::read(include.config()).unwrap();
    include.install("hula.atlas", BLOCK).unwrap();
    assert_eq!(fs::read(include.config()).unwrap(), first, "once is enough");
    assert_eq!(
        fs::read(include.file("hula.atlas")).unwrap(),
        BLOCK.as_bytes()
    );
    assert_eq!(mode(&home.0.path().join(".ssh")), 0o700);
    assert_eq!(mode(&include.config()), 0o600);
    assert!(include.remove("hula.atlas").unwrap().is_something());
    let left: Vec<_> = fs::read_dir(home.0.path().join(".ssh")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_was_there_stays_byte_for_byte() {
    // One is no text, one has no end of line, and one has nearly our line.
    let configs: [&[u8]; 5] = [
        b"",
        b"# \xff\r\nHost *\r\n  User me\r\n",
        b"Host x\n  Include other\n",
        b"Host x\n  User y",
        b"Include tunnel.d/*.conf.bak\n",
    ];
    for config in configs {
        let (_home, include) = Home::with(Some(config));
        fs::set_permissions(include.config(), fs::Permissions::from_mode(0o640)).unwrap();
        include.install("hula.atlas", BLOCK).unwrap();
        include.install("lava.atlas", BLOCK).unwrap();
        let installed = fs::read(include.config()).unwrap();
        assert_eq!(installed, [b"Include tunnel.d/*.conf\n", config].concat());
        assert!(include.remove("hula.atlas").unwrap().is_something());
        let still = fs::read(include.config()).unwrap();
        assert_eq!(still, installed, "another system's is there");
        assert!(include.remove("lava.atlas").unwrap().is_something());
        assert_eq!(fs::read(include.config()).unwrap(), config);
        assert_eq!(mode(&include.config()), 0o640);
        assert!(!include.remove("lava.atlas").unwrap().is_something());
    }
}

#[test]
fn a_line_that_counts_for_one_host_only_is_not_enough() {
    let (_home, include) = Home::with(Some(b"Host x\nInclude tunnel.d/*.conf\n"));
    include.install("hula.atlas", BLOCK).unwrap();
    let text = fs::read_to_string(include.config()).unwrap();
    assert!(
        text.starts_with("Include tunnel.d/*.conf\nHost x\n"),
        "{text}"
    );
}

#[test]
fn a_link_is_kept_and_followed_to_ones_own_file_alone() {
    let (home, include) = Home::with(Some(b""));
    let real = home.0.path().join("dotfiles");
    fs::write(&real, "Host x\n").unwrap();
    fs::remove_file(include.config()).unwrap();
    symlink(&real, include.config()).unwrap();
    include.install("hula.atlas", BLOCK).unwrap();
    assert!(include.config().is_symlink());
    let text = fs::read_to_string(&real).unwrap();
    assert_eq!(text, "Include tunnel.d/*.conf\nHost x\n");
    assert!(include.remove("hula.atlas").unwrap().is_something());
    assert_eq!(fs::read_to_string(&real).unwrap(), "Host x\n");

    // Root owns all that it could be pointed at, but a directory is no file for anybody.
    let foreign = if rustix::process::geteuid().is_root() {
        home.0.path()
    } else {
        Path::new("/etc/passwd")
    };
    fs::remove_file(include.config()).unwrap();
    symlink(foreign, include.config()).unwrap();
    let error = include.install("hula.atlas", BLOCK).unwrap_err();
    assert!(
        error.hint().unwrap().contains("tunnel ssh-config"),
        "{error}"
    );
    assert!(!include.file("hula.atlas").exists(), "nothing is half done");

    fs::remove_file(include.config()).unwrap();
    symlink(home.0.path().join("nowhere"), include.config()).unwrap();
    assert!(include.install("hula.atlas", BLOCK).is_err());
    assert!(!home.0.path().join("nowhere").exists());
}

#[test]
fn what_is_installed_is_known_by_its_directory() {
    let (_home, include) = Home::with(None);
    assert!(include.installed().unwrap().is_empty());
    let block = |dir: &str| {
        let config = crate::SshConfig {
            program: "/usr/bin/tunnel".into(),
            dir: dir.into(),
            id: "controller-a.hula.atlas".parse().unwrap(),
            key: "/key".into(),
            known_hosts: "/known_hosts".into(),
            short: false,
        };
        config.block().unwrap()
    };
    include.install("lava.atlas", &block("/b")).unwrap();
    include
        .install("hula.atlas", &block("/it's 100%/a/"))
        .unwrap();
    let found = include.installed().unwrap();
    let of = |dir: &str| -> Vec<&str> {
        let leads = found.iter().filter(|one| one.leads_through(dir.as_ref()));
        leads.map(|one| &*one.name).collect()
    };
    assert_eq!(of("/it's 100%/a"), ["hula.atlas"]);
    assert_eq!(of("/b/"), ["lava.atlas"]);
    assert_eq!(of("/"), [""; 0]);
    // What else somebody has there is no hindrance.
    let (folder, pipe) = (include.file("folder"), include.file("pipe"));
    fs::create_dir(&folder).unwrap();
    symlink("nowhere", include.file("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let large = fs::File::create(include.file("large")).unwrap();
    large.set_len(MAX_CONFIG as u64 + 1).unwrap();
    let names: Vec<String> = include
        .installed()
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["hula.atlas", "lava.atlas"]);
    fs::remove_dir(folder).unwrap();
    for name in ["dangling", "pipe", "large"] {
        fs::remove_file(include.file(name)).unwrap();
    }
    let removed = include.remove("hula.atlas").unwrap();
    assert!(removed.settings && !removed.line);
    let removed = include.remove("lava.atlas").unwrap();
    assert!(removed.settings && removed.line);
}
