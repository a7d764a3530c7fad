//! The Debian package: its files, what the package system is told of them, and the archive, which `dpkg-deb` makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::Tree;
use super::{cannot, workspace};
use crate::step::ChoreError;

/// A package that can be made.
pub(super) struct Package {
    /// The program that it is for.
    pub(super) program: PathBuf,
    /// Its version, as Debian writes versions.
    pub(super) version: String,
    /// Whether to compress as little as possible: for tests.
    pub(super) fast: bool,
}

impl Package {
    /// Makes `tunnel_VERSION_ARCHITECTURE.deb` in the folder.
    pub(super) fn assemble(&self, out: &Path) -> Result<PathBuf, ChoreError> {
        let work = out.join(format!(".tunnel_{}", self.version));
        if work.exists() {
            fs::remove_dir_all(&work).map_err(|error| cannot("remove", &work, &error))?;
        }
        let tree = Tree::new(work.join("tree"));
        self.files(&tree, &work)?;
        let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
        let needs = libraries(&tree, &work)?;
        let control = format!(
            "Package: tunnel\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\nInstalled-Size: {}\nDepends: \
             {needs}, systemd | systemd-standalone-sysusers | systemd-sysusers\nRecommends: openssh-client\nSection: \
             net\nPriority: optional\nDescription: {DESCRIPTION}\n",
            self.version,
            tree.kibibytes()?
        );
        tree.text("DEBIAN/control", &control)?;
        tree.text("DEBIAN/conffiles", "/etc/default/tunnel\n")?;
        tree.text("DEBIAN/md5sums", &tree.checksums()?)?;
        for script in ["postinst", "prerm", "postrm"] {
            let from = packaging().join("debian").join(script);
            tree.program(&from, &format!("DEBIAN/{script}"))?;
        }
        let package = out.join(format!("tunnel_{}_{architecture}.deb", self.version));
        let mut build = Command::new("dpkg-deb");
        build.args(["--build", "--root-owner-group"]);
        if self.fast {
            build.args(["-Zgzip", "-z1"]);
        } else {
            // Debian's own default, which a distribution may have changed to what older systems cannot read.
            build.arg("-Zxz");
        }
        said(
            build
                .arg(tree.root())
                .arg(&package)
                .env("SOURCE_DATE_EPOCH", epoch().to_string()),
        )?;
        fs::remove_dir_all(&work).map_err(|error| cannot("remove", &work, &error))?;
        Ok(package)
    }

    fn files(&self, tree: &Tree, work: &Path) -> Result<(), ChoreError> {
        tree.program(&self.program, "usr/bin/tunnel")?;
        // One that is handed out has no symbols any more; the one of a test loses them here.
        said(
            Command::new("strip")
                .args(["--remove-section=.comment", "--remove-section=.note"])
                .arg(tree.root().join("usr/bin/tunnel")),
        )?;
        let packaging = packaging();
        tree.folder(&packaging.join("systemd"), "usr/lib/systemd/system")?;
        tree.folder(&packaging.join("sysusers.d"), "usr/lib/sysusers.d")?;
        tree.folder(&packaging.join("default"), "etc/default")?;
        tree.folder(&packaging.join("examples"), "usr/share/doc/tunnel/examples")?;
        tree.file(
            &packaging.join("debian/copyright"),
            "usr/share/doc/tunnel/copyright",
        )?;
        let pages = work.join("pages");
        said(
            Command::new(fs::canonicalize(&self.program).unwrap_or(self.program.clone()))
                .arg("pages")
                .arg(&pages),
        )?;
        tree.compressed(&pages.join("man/man1"), "usr/share/man/man1")?;
        for shell in [
            "bash-completion/completions",
            "zsh/vendor-completions",
            "fish/vendor_completions.d",
        ] {
            tree.folder(&pages.join(shell), &format!("usr/share/{shell}"))?;
        }
        let changes = work.join("changelog");
        fs::create_dir_all(&changes).map_err(|error| cannot("make", &changes, &error))?;
        let text = workspace().join("CHANGELOG.md");
        let date = said(Command::new("date").args(["-u", "-R", "-d", &format!("@{}", epoch())]))?;
        let entry = format!(
            "tunnel ({}) unstable; urgency=medium\n\n  * What has changed, and what to do: CHANGELOG.md.gz.\n\n -- {MAINTAINER}  {date}\n",
            self.version
        );
        fs::write(changes.join("changelog"), entry)
            .and_then(|()| fs::copy(text, changes.join("CHANGELOG.md")))
            .map_err(|error| cannot("write", &changes, &error))?;
        tree.compressed(&changes, "usr/share/doc/tunnel")
    }
}

/// The packages with the libraries that the program is linked to, in the versions that it needs; none if it is static.
fn libraries(tree: &Tree, work: &Path) -> Result<String, ChoreError> {
    let source = work.join("debian");
    fs::create_dir_all(&source)
        .and_then(|()| {
            fs::write(
                source.join("control"),
                "Source: tunnel\n\nPackage: tunnel\nArchitecture: any\n",
            )
        })
        .map_err(|error| cannot("write", &source, &error))?;
    let program = fs::canonicalize(tree.root().join("usr/bin/tunnel"))
        .map_err(|error| cannot("find", tree.root(), &error))?;
    let text = said(
        Command::new("dpkg-shlibdeps")
            .args(["-O", "--warnings=0"])
            .arg(program)
            .current_dir(work),
    )?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(found.unwrap_or("base-files").to_owned())
}

/// The time of the last change, so that the same sources make the same package.
fn epoch() -> u64 {
    said(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(workspace()),
    )
    .ok()
    .and_then(|text| text.parse().ok())
    .unwrap_or_default()
}

fn packaging() -> PathBuf {
    workspace().join("packaging")
}

/// What a program prints; its failure is the chore's.
pub(super) fn said(command: &mut Command) -> Result<String, ChoreError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| ChoreError::Missing(format!("`{name}` cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(ChoreError::Failed(format!(
        "`{name}`: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

const MAINTAINER: &str = "The tunnel project <tunnel@packages.invalid>";

const DESCRIPTION: &str = "SSH to computers behind somebody else's NAT
 A remote computer runs an agent, which keeps one cheap MQTT session. When
 somebody connects, it opens a reverse SSH tunnel to the realm's proxy, and
 ssh goes through it, end to end. When nobody is connected there is no tunnel.
 .
 The package has the program for all parts: the agent, the commands of those
 who connect, and the server of a realm. It starts none of them by itself.";
