//! Who may order and who may only serve.

use crate::Label;

/// What a device is allowed to be. The name alone decides, here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// May order tunnels to the targets of its system, and open streams through them.
    Controller,
    /// A remote computer: may only serve.
    Target,
}

/// The first letters of every controller's name.
pub const CONTROLLER_PREFIX: &str = "controller";

impl Role {
    /// The role of the device of this name.
    ///
    /// The original asks in three places with two rules, "contains" and "begins with"; its `README` says "begins with".
    pub fn of(device: &Label) -> Self {
        if device.as_str().starts_with(CONTROLLER_PREFIX) {
            Self::Controller
        } else {
            Self::Target
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_the_name_counts() {
        let role = |name: &str| Role::of(&name.parse().unwrap());
        assert_eq!(role("controller"), Role::Controller);
        assert_eq!(role("controller-sivanlap"), Role::Controller);
        assert_eq!(role("my-controller"), Role::Target);
        assert_eq!(role("control"), Role::Target);
        assert_eq!(role("333"), Role::Target);
    }
}
