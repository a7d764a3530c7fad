//! A device that access rules are written for.

use std::collections::BTreeMap;

use crate::{Action, PolicySet, RoleDocument, Subject, SubjectError, Variable};

/// A device that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub(super) subject: Subject,
    pub(super) role: RoleDocument,
}

/// Two devices with one name: the rules of one would be the other's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are two devices with the client id `{client_id}`")]
pub struct DuplicateDevice {
    /// Their client id.
    pub client_id: String,
}

/// Devices in the order of their client ids, and the names in each system.
pub(super) struct Fleet<'d> {
    devices: BTreeMap<&'d str, &'d Device>,
    systems: BTreeMap<Option<&'d str>, Vec<&'d str>>,
}

impl Device {
    /// The device of this common name, organizational unit and organization; the common name is its client id.
    pub fn new(
        common_name: &str,
        device: &str,
        system: &str,
        role: RoleDocument,
    ) -> Result<Self, SubjectError> {
        let subject = Subject::new(common_name)?
            .with_common_name(common_name)?
            .with_organization(system)?
            .with_organizational_unit(device)?;
        Ok(Self { subject, role })
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.subject.value(Variable::Organization)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.subject.value(Variable::OrganizationalUnit)
    }

    /// Whether its document lets it connect under its common name.
    pub(super) fn may_connect(&self, policies: &PolicySet) -> bool {
        policies
            .get(self.role)
            .decide(&self.subject, Action::Connect, self.subject.client_id())
            .is_allowed()
    }
}

impl<'d> Fleet<'d> {
    pub(super) fn new(devices: &'d [Device]) -> Result<Self, DuplicateDevice> {
        let mut sorted = BTreeMap::new();
        let mut systems: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for device in devices {
            if sorted.insert(device.subject.client_id(), device).is_some() {
                return Err(DuplicateDevice {
                    client_id: device.subject.client_id().to_owned(),
                });
            }
            systems
                .entry(device.system())
                .or_default()
                .extend(device.name());
        }
        for names in systems.values_mut() {
            names.sort_unstable();
        }
        Ok(Self {
            devices: sorted,
            systems,
        })
    }

    /// The devices with their client ids, sorted by them.
    pub(super) fn devices(&self) -> impl Iterator<Item = (&'d str, &'d Device)> {
        self.devices.iter().map(|(id, device)| (*id, *device))
    }

    /// The systems, sorted.
    pub(super) fn systems(&self) -> impl Iterator<Item = &'d str> {
        self.systems.keys().copied().flatten()
    }

    /// The names in a device's system, sorted.
    pub(super) fn beside(&self, device: &'d Device) -> &[&'d str] {
        self.systems
            .get(&device.system())
            .map_or(&[][..], Vec::as_slice)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A device of the realm `atlas`, whose name says its role.
    pub(in crate::render) fn device(name: &str, system: &str) -> Device {
        let role = if name.starts_with("controller") {
            RoleDocument::Controller
        } else {
            RoleDocument::Target
        };
        Device::new(&format!("{name}.{system}.atlas"), name, system, role).unwrap()
    }
}
