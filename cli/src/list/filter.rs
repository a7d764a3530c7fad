//! Which devices are to be listed.

use controller::Listed;

use crate::arguments::Which;

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) struct Filter {
    pattern: Option<Vec<char>>,
    online: Option<bool>,
}

impl Filter {
    pub(crate) fn new(arguments: &Which) -> Self {
        let online = match (arguments.online, arguments.offline) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        Self::of(arguments.pattern.as_deref(), online)
    }

    /// Devices of such a name, and only those that are online or that are not.
    pub(super) fn of(pattern: Option<&str>, online: Option<bool>) -> Self {
        Self {
            pattern: pattern.map(|pattern| pattern.chars().collect()),
            online,
        }
    }

    /// Whether this device is to be listed.
    pub(crate) fn takes(&self, device: &Listed) -> bool {
        self.online.is_none_or(|online| online == device.online) && self.is_named(device)
    }

    fn is_named(&self, device: &Listed) -> bool {
        let Some(pattern) = &self.pattern else {
            return true;
        };
        let fits = |name: &str| fits(pattern, &name.chars().collect::<Vec<_>>());
        fits(device.device.device().as_str()) || fits(&device.device.to_string())
    }
}

/// Whether a name is of this pattern: goes back to the last `*` only, so that no pattern takes long.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || Some(wanted) == name.get(read) => {
                at += 1;
                read += 1;
            }
            Some(_) | None => {
                let Some((begin, taken)) = star else {
                    return false;
                };
                star = Some((begin, taken + 1));
                (at, read) = (begin + 1, taken + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns_are_those_of_shells() {
        let fits = |pattern: &str, name: &str| {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            super::fits(&chars(pattern), &chars(name))
        };
        for (pattern, name) in [
            ("333", "333"),
            ("3*", "333"),
            ("*", ""),
            ("**", "barn-7"),
            ("b?rn-*", "barn-7"),
            ("*-*-7", "a-b-7-c-7"),
            ("*.hula.*", "333.hula.atlas"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("3", "333"),
            ("?", ""),
            ("", "3"),
            ("*a", "ab"),
            ("b*x", "barn"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        // A pattern that would take a simple matcher for ever.
        assert!(!fits(&"*a".repeat(60), &"b".repeat(253)));
    }
}
