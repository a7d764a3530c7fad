//! `scp`, `sftp` and `rsync` with a fault in the middle of their 200 MB, all three at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Stopwatch, current_user, is_beginning, sha256, tool, wait_until};

use super::remote::{Moving, NOTICED, Remote, remote_file};
use super::transfers::lose_for_seconds;

#[test]
fn scp_sftp_and_rsync_hear_of_a_cut_and_leave_nothing_wrong() {
    let remote = Remote::start();
    let before = remote.baseline();
    let copies = Copies::of(&remote);
    let (watch, outcomes) = remote.in_the_middle(copies.all(&remote), || {
        remote.link.rule("drop");
        Stopwatch::start()
    });
    let here = watch.elapsed();
    for outcome in &outcomes {
        assert!(!matches!(outcome.code, Some(0)), "{}", outcome.report());
    }
    let left = NOTICED.saturating_sub(here);
    wait_until("the computer's sshd to hear of it", left, || {
        match remote.sshd.sessions() {
            0 => Ok(()),
            left => Err(format!("{left} sessions")),
        }
    });
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.code).collect();
    println!(
        "scp, sftp and rsync knew after {here:?} ({codes:?}), sshd after {:?}",
        watch.elapsed()
    );
    for part in [&copies.scp, &copies.sftp] {
        assert!(is_beginning(part, &remote.payload()), "{}", part.display());
    }
    assert!(
        !copies.rsync.exists(),
        "rsync names a file when it is whole"
    );

    remote.link.rule("");
    remote.returns_to(&before);
    remote.carries_again();
}

#[test]
fn scp_sftp_and_rsync_outlast_seconds_of_loss() {
    let remote = Remote::start();
    let before = remote.baseline();
    let copies = Copies::of(&remote);
    let ((), outcomes) = remote.in_the_middle(copies.all(&remote), || lose_for_seconds(&remote));
    for outcome in outcomes {
        println!("{:?}", outcome.took);
        outcome.success();
    }
    let sent = sha256(&remote.payload());
    for copy in [&copies.scp, &copies.sftp, &copies.rsync] {
        assert_eq!(sha256(copy), sent, "{}", copy.display());
    }
    remote.returns_to(&before);
}

/// Where each of the three puts its copy: `scp` fetches, the others send.
struct Copies {
    scp: PathBuf,
    sftp: PathBuf,
    rsync: PathBuf,
}

impl Copies {
    fn of(remote: &Remote) -> Self {
        let path = |name| remote.world.path(name);
        Self {
            scp: path("scp"),
            sftp: path("sftp"),
            rsync: path("rsync"),
        }
    }

    fn all(&self, remote: &Remote) -> Vec<Moving<'_>> {
        let payload = remote.payload();
        let mut scp = remote.stock("scp");
        scp.arg("-q").arg(remote_file(&payload)).arg(&self.scp);

        let batch = remote.world.path("batch");
        let put = format!("put {} {}\n", payload.display(), self.sftp.display());
        fs::write(&batch, put).unwrap();
        let mut sftp = remote.stock("sftp");
        sftp.args(["-q", "-b"]).arg(&batch);
        sftp.arg(format!("{}@333.hula.atlas", current_user()));

        let shell = remote.stock("ssh");
        let words = shell.get_args().map(|word| word.to_string_lossy());
        let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
        let shell = format!("{} {}", tool("ssh").display(), words.join(" "));
        let mut rsync = Command::new(tool("rsync"));
        remote.world.mark(&mut rsync);
        rsync.args(["--whole-file", "-e", &shell]);
        rsync.arg(&payload).arg(remote_file(&self.rsync));

        [scp, sftp, rsync]
            .map(|program| Moving {
                program,
                from: Path::new("/dev/null"),
                to: Path::new("/dev/null"),
            })
            .into()
    }
}
