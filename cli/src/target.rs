//! `USER@DEVICE`, as people type it.

use protocol::{DeviceId, Label};

use crate::exit;
use crate::failure::Failure;

/// A user, if one was named, and the device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The user on the device.
    pub(crate) user: Option<String>,
    /// The device.
    pub(crate) device: DeviceId,
}

/// Reads `[USER@]DEVICE`, where DEVICE is `333`, `333.hula` or `333.hula.atlas`; what is missing is the controller's own.
pub(crate) fn parse(text: &str, own: &DeviceId) -> Result<Target, Failure> {
    let (user, name) = match text.rsplit_once('@') {
        Some((user, name)) if !user.is_empty() => (Some(user.to_owned()), name),
        Some((_, name)) => (None, name),
        None => (None, text),
    };
    let device = device(name, own).map_err(|error| {
        let hint = Some("a device is `333`, `333.hula` or `333.hula.atlas`".to_owned());
        Failure::new(
            NotADevice {
                name: name.chars().take(80).collect(),
                source: error,
            },
            hint,
            exit::USAGE,
        )
    })?;
    Ok(Target { user, device })
}

fn device(name: &str, own: &DeviceId) -> Result<DeviceId, protocol::NameError> {
    let (system, realm) = (own.system(), own.realm());
    match name.matches('.').count() {
        0 => DeviceId::new(name.parse()?, system.clone(), realm.clone()),
        1 => {
            let parts: Vec<Label> = name.split('.').map(str::parse).collect::<Result<_, _>>()?;
            match <[Label; 2]>::try_from(parts) {
                Ok([device, system]) => DeviceId::new(device, system, realm.clone()),
                Err(parts) => Err(protocol::NameError::Parts { parts: parts.len() }),
            }
        }
        _ => name.parse(),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{name}` is not the name of a device")]
struct NotADevice {
    name: String,
    source: protocol::NameError,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> DeviceId {
        "controller-a.hula.atlas".parse().unwrap()
    }

    #[test]
    fn what_is_missing_is_the_controllers_own() {
        let parsed = |text: &str| {
            let Target { user, device } = parse(text, &own()).unwrap();
            (user, device.to_string())
        };
        let user = |name: &str| Some(name.to_owned());
        assert_eq!(
            parsed("atlas@333"),
            (user("atlas"), "333.hula.atlas".into())
        );
        assert_eq!(parsed("333"), (None, "333.hula.atlas".into()));
        assert_eq!(parsed("@333"), (None, "333.hula.atlas".into()));
        assert_eq!(
            parsed("a@b@333.other"),
            (user("a@b"), "333.other.atlas".into())
        );
        assert_eq!(
            parsed("x@333.other.realm"),
            (user("x"), "333.other.realm".into())
        );
    }

    #[test]
    fn what_is_no_name_is_a_usage_error() {
        let failure = parse("atlas@Station_7", &own()).unwrap_err();
        assert_eq!(failure.code(), exit::USAGE);
        insta::assert_snapshot!(failure, @r"
        error: `Station_7` is not the name of a device
        caused by: a name may have only a-z, 0-9 and inner `-`, not 'S'
        hint: a device is `333`, `333.hula` or `333.hula.atlas`
        ");
    }
}
