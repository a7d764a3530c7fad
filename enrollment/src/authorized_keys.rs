//! The lines that we keep in somebody's `authorized_keys`, among lines that are none of ours. Pure.

use std::fmt;

use protocol::{DeviceId, Label, Role};

use crate::DeviceKey;

/// Which lines of a file are ours: those that end with this word. Lines of another system or realm are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

/// A file with our lines brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The whole new content.
    pub content: Vec<u8>,
    /// How many of our lines are new.
    pub added: usize,
    /// How many of our lines are gone.
    pub removed: usize,
    /// The numbers, from 1, of foreign lines that hold a key of ours: sshd takes the first line that fits, so these decide what
    /// the key may do.
    pub shadowing: Vec<usize>,
}

impl Marker {
    /// The marker of a system's keys.
    pub fn new(system: &Label, realm: &Label) -> Self {
        Self(format!("{PREFIX}{system}.{realm}"))
    }

    /// The marker that this word is.
    pub fn parse(text: &str) -> Option<Self> {
        let (system, realm) = text.strip_prefix(PREFIX)?.split_once('.')?;
        Some(Self::new(&system.parse().ok()?, &realm.parse().ok()?))
    }

    /// Whether this line is ours.
    fn owns(&self, line: &[u8]) -> bool {
        let mut words = line.split(u8::is_ascii_whitespace);
        let last = words.rfind(|word| !word.is_empty());
        last == Some(self.0.as_bytes()) && !line.trim_ascii_start().starts_with(b"#")
    }

    /// The line that lets a controller log in where it is written, as whoever's file that is.
    pub fn login_line(&self, key: &DeviceKey) -> Option<String> {
        Some(format!("{} {self}", key.key().to_openssh().ok()?))
    }

    /// The line for a device at a stock sshd that serves as the proxy: a target may listen on its own port, a
    /// controller may open the ports of its system's targets, and neither may do anything else. `None` if there is
    /// no port for it.
    pub fn proxy_line(
        &self,
        key: &DeviceKey,
        port_of: impl Fn(&DeviceId) -> Option<u16>,
        targets: &[DeviceId],
    ) -> Option<String> {
        // sshd compares hosts as they are written, and `localhost` is what both stock clients and ours write. A
        // direction that nobody asked for has to be closed by name, because an empty list is an open one.
        let permits = match key.id().role() {
            Role::Target => format!(
                r#"permitlisten="localhost:{}",permitopen="{NOWHERE}""#,
                port_of(key.id())?
            ),
            Role::Controller => {
                let mut opens: Vec<String> = targets
                    .iter()
                    .filter_map(port_of)
                    .take(MAX_PERMITS)
                    .map(|port| format!(r#"permitopen="localhost:{port}""#))
                    .collect();
                if opens.is_empty() {
                    opens.push(format!(r#"permitopen="{NOWHERE}""#));
                }
                format!(r#"permitlisten="{NOWHERE}",{}"#, opens.join(","))
            }
        };
        Some(format!(
            r#"restrict,port-forwarding,{permits},command="/bin/false" {} {self}"#,
            key.key().to_openssh().ok()?
        ))
    }

    /// Puts these lines in the place of ours. All other lines stay as they are, byte for byte and in their order.
    pub fn merge(&self, present: &[u8], lines: &[String]) -> Merged {
        let (mut content, mut ours, mut shadowing) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in present.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if self.owns(line) {
                ours.push(line.trim_ascii_end());
                continue;
            }
            if !line.starts_with(b"#") && holds_key_of(line, lines) {
                shadowing.push(index + 1);
            }
            content.extend_from_slice(line);
        }
        let is_known = |line: &&String| ours.contains(&line.as_bytes());
        let kept = lines.iter().filter(is_known).count();
        if !lines.is_empty() && !content.is_empty() && !content.ends_with(b"\n") {
            content.push(b'\n');
        }
        for line in lines {
            content.extend_from_slice(line.as_bytes());
            content.push(b'\n');
        }
        Merged {
            content,
            added: lines.len() - kept,
            removed: ours.len().saturating_sub(kept),
            shadowing,
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a line holds the base64 of one of the keys.
fn holds_key_of(line: &[u8], lines: &[String]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace);
    words.any(|word| {
        word.starts_with(b"AAAA")
            && lines
                .iter()
                .any(|ours| ours.split(' ').any(|ours| ours.as_bytes() == word))
    })
}

const PREFIX: &str = "tunnel-sync:";

/// A place that is never there (RFC 6761, section 6.4), on a port that only root could listen on.
const NOWHERE: &str = "none.invalid:1";

/// The most `permitopen` of a line: sshd takes no more than 4096 (`SSH_AUTHOPT_PERMIT_MAX` in OpenSSH's `auth-options.h`).
pub const MAX_PERMITS: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";

    fn marker() -> Marker {
        Marker::new(&"hula".parse().unwrap(), &"atlas".parse().unwrap())
    }

    fn key(id: &str) -> DeviceKey {
        DeviceKey::parse(&id.parse().unwrap(), &format!("{KEY} {id}")).unwrap()
    }

    fn port_of(id: &DeviceId) -> Option<u16> {
        id.device()
            .as_str()
            .parse::<u16>()
            .ok()
            .map(|number| 61_000 + number)
    }

    #[test]
    fn a_target_listens_on_its_port_and_a_controller_opens_all_of_its_system() {
        let target = marker()
            .proxy_line(&key("333.hula.atlas"), port_of, &[])
            .unwrap();
        assert_eq!(
            target,
            format!(
                r#"restrict,port-forwarding,permitlisten="localhost:61333",permitopen="none.invalid:1",command="/bin/false" {KEY} 333.hula.atlas tunnel-sync:hula.atlas"#
            )
        );
        let targets =
            ["1.hula.atlas", "2.hula.atlas", "x.hula.atlas"].map(|id| id.parse().unwrap());
        let controller = marker()
            .proxy_line(&key("controller-a.hula.atlas"), port_of, &targets)
            .unwrap();
        assert_eq!(
            controller,
            format!(
                r#"restrict,port-forwarding,permitlisten="none.invalid:1",permitopen="localhost:61001",permitopen="localhost:61002",command="/bin/false" {KEY} controller-a.hula.atlas tunnel-sync:hula.atlas"#
            )
        );
        assert_eq!(
            marker().proxy_line(&key("x.hula.atlas"), port_of, &targets),
            None
        );
        let lonely = marker()
            .proxy_line(&key("controller-a.hula.atlas"), port_of, &[])
            .unwrap();
        assert!(
            lonely.contains(r#"permitopen="none.invalid:1""#),
            "never an open list"
        );
    }

    #[test]
    fn our_lines_come_and_go_and_others_stay() {
        let line = marker()
            .login_line(&key("controller-a.hula.atlas"))
            .unwrap();
        let foreign = b"# a comment tunnel-sync:hula.atlas\r\n\n  from=\"10.0.0.1\" ssh-rsa AAAAB3 me\nlast without end";
        let merged = marker().merge(foreign, std::slice::from_ref(&line));
        assert_eq!((merged.added, merged.removed), (1, 0));
        let expected = [foreign.as_slice(), b"\n", line.as_bytes(), b"\n"].concat();
        assert_eq!(merged.content, expected);
        let again = marker().merge(&expected, std::slice::from_ref(&line));
        assert_eq!(
            (again.added, again.removed, again.content),
            (0, 0, expected.clone())
        );
        let gone = marker().merge(&expected, &[]);
        assert_eq!(gone.removed, 1);
        assert_eq!(gone.content, [foreign.as_slice(), b"\n"].concat());
    }

    #[test]
    fn another_systems_lines_are_foreign() {
        let line = marker()
            .login_line(&key("controller-a.hula.atlas"))
            .unwrap();
        let other = Marker::new(&"tau".parse().unwrap(), &"atlas".parse().unwrap());
        let merged = other.merge(format!("{line}\n").as_bytes(), &[]);
        assert_eq!(
            (merged.removed, merged.content),
            (0, format!("{line}\n").into_bytes())
        );
    }

    #[test]
    fn a_foreign_line_with_our_key_is_told() {
        let line = marker()
            .login_line(&key("controller-a.hula.atlas"))
            .unwrap();
        let original = format!("\n{KEY} controller-a.hula.atlas\n#{KEY}\n");
        assert_eq!(marker().merge(original.as_bytes(), &[line]).shadowing, [2]);
    }

    #[test]
    fn only_a_marker_is_one() {
        assert_eq!(Marker::parse("tunnel-sync:hula.atlas"), Some(marker()));
        for bad in [
            "hula.atlas",
            "tunnel-sync:hula",
            "tunnel-sync:hula.atlas\nssh-rsa",
            "tunnel-sync:.",
            "",
        ] {
            assert_eq!(Marker::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_never_lost(lines in proptest::collection::vec("[ -~\\t\\r]{0,30}", 0..8)) {
            let present = lines.join("\n");
            let ours = marker().login_line(&key("controller-a.hula.atlas")).unwrap();
            let merged = marker().merge(present.as_bytes(), &[ours]);
            prop_assert!(merged.content.starts_with(present.as_bytes()));
            let back = marker().merge(&merged.content, &[]);
            let back = back.content.strip_suffix(b"\n").unwrap_or(&back.content).to_vec();
            let present = present.strip_suffix('\n').unwrap_or(&present);
            prop_assert_eq!(back, present.as_bytes());
        }
    }
}
