//! Answers that the commands of one directory share.
//!
//! An editor opens four connections to a device at once, and they take turns at the broker. The second need not ask what the
//! first has just been told: whoever has the turn leaves the answer in the lock's file, and those who wait for the turn
//! with the same question go by it. Their streams keep the tunnel as well as his.

use std::path::PathBuf;

use daemon::files;
use protocol::limits::MAX_PAYLOAD;
use protocol::{Reply, ReplyBody};

use crate::attempt::{Opened, Ports};
use crate::connection::Account;
use crate::order::Asked;
use crate::turn::Turn;

/// What was there when somebody began to wait.
pub(crate) struct Answers {
    file: PathBuf,
    question: Vec<u8>,
    before: Vec<u8>,
}

impl Answers {
    /// From now on.
    pub(crate) fn from_now(account: &Account, asked: &Asked) -> Self {
        let file = Turn::file(&account.dir);
        Self {
            before: read(&file),
            file,
            question: question(asked),
        }
    }

    /// An answer to the same question, given since. A lease is in each, so that no two are alike.
    pub(crate) fn given(&self) -> Option<Opened> {
        let now = read(&self.file);
        if now == self.before {
            return None;
        }
        // Half of it may be written yet; then there is another look.
        let reply = Reply::decode(now.strip_prefix(&*self.question)?).ok()?;
        let ReplyBody::Opened {
            proxy,
            forwards,
            host_keys,
        } = reply.body
        else {
            return None;
        };
        Some(Opened {
            proxy: Some(proxy),
            forwards: Ports::Named(forwards),
            host_keys,
        })
    }
}

/// The answer, for the others. One in the plain grammar is not shared: it has no names.
pub(crate) fn note(asked: &Asked, opened: &Opened) -> Option<Vec<u8>> {
    let (Some(proxy), Ports::Named(forwards)) = (&opened.proxy, &opened.forwards) else {
        return None;
    };
    let reply = Reply {
        lease: Some(asked.lease),
        body: ReplyBody::Opened {
            proxy: proxy.clone(),
            forwards: forwards.clone(),
            host_keys: opened.host_keys.clone(),
        },
    };
    let mut note = question(asked);
    note.extend(reply.encode());
    Some(note)
}

fn question(asked: &Asked) -> Vec<u8> {
    format!("{} {}\n", asked.device, asked.service).into_bytes()
}

fn read(file: &std::path::Path) -> Vec<u8> {
    // None yet, or none that can be read: then there is nothing to go by.
    files::read_bounded(file, 2 * MAX_PAYLOAD).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use protocol::{Forward, LeaseId};

    use super::*;

    #[test]
    fn only_a_new_answer_to_the_same_question_counts() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("lock");
        let asked = |device: &str, lease| Asked {
            controller: "controller-a.hula.atlas".parse().unwrap(),
            device: device.parse().unwrap(),
            service: "ssh".parse().unwrap(),
            lease: LeaseId::from_bytes([lease; 16]),
        };
        let opened = Opened {
            proxy: Some("127.0.0.1:2222".into()),
            forwards: Ports::Named(vec![Forward {
                service: "ssh".parse().unwrap(),
                port: 40_000,
            }]),
            host_keys: vec!["ssh-ed25519 AAAA".into()],
        };
        let say = |device: &str, lease| {
            std::fs::write(&file, note(&asked(device, lease), &opened).unwrap()).unwrap();
        };
        say("333.hula.atlas", 1);
        let answers = Answers {
            before: read(&file),
            file: file.clone(),
            question: question(&asked("333.hula.atlas", 9)),
        };
        assert_eq!(answers.given(), None, "it was there before");
        say("334.hula.atlas", 2);
        assert_eq!(answers.given(), None, "of another device");
        say("333.hula.atlas", 3);
        assert_eq!(answers.given(), Some(opened.clone()));
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(answers.given(), None, "half written");
        let plain = Opened {
            proxy: None,
            forwards: Ports::Ssh(40_000),
            host_keys: Vec::new(),
        };
        assert_eq!(note(&asked("333.hula.atlas", 4), &plain), None);
    }
}
