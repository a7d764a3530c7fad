//! Which orders to open a tunnel are not carried out, and what their controller is told of the reason.

use protocol::{DeviceId, Label, LeaseId, RefusalCode};

use super::{Leases, by_port};

impl Leases {
    /// Why an order to open cannot be carried out, if it cannot.
    pub(super) fn refusal(
        &self,
        controller: &Label,
        lease: LeaseId,
        services: &[Label],
    ) -> Option<(RefusalCode, String)> {
        let device = &self.device;
        if self.shutting_down {
            return Some((
                RefusalCode::ShuttingDown,
                format!("the agent of `{device}` is about to stop; try again"),
            ));
        }
        if let Some(unknown) = services
            .iter()
            .find(|service| !self.services.contains(service))
        {
            let by_port = by_port::port(unknown).is_some();
            let told = |service: &Label| {
                if by_port {
                    self.by_port.told(service)
                } else {
                    service.to_string()
                }
            };
            let offered = self.services.iter().map(told).collect::<Vec<_>>();
            let offered = offered.join(", ");
            let text = format!("`{device}` offers no service `{unknown}`, only: {offered}");
            return Some((RefusalCode::UnknownService, text));
        }
        let is_new = !self.held.contains_key(&(controller.clone(), lease));
        let own = self
            .held
            .keys()
            .filter(|(owner, _)| owner == controller)
            .count();
        if is_new && own >= MAX_LEASES_PER_CONTROLLER {
            return Some((
                RefusalCode::Busy,
                format!(
                    "`{controller}` holds {MAX_LEASES_PER_CONTROLLER} leases of `{device}` already; \
                     `tunnel disconnect` gives them up"
                ),
            ));
        }
        if is_new && self.held.len() >= MAX_LEASES {
            return Some((
                RefusalCode::Busy,
                format!("`{device}` holds {MAX_LEASES} leases already"),
            ));
        }
        None
    }
}

/// Shows both clocks: a wrong one is the usual reason, and the person has to see which.
pub(super) fn stale_text(device: &DeviceId, issued: u64, now: u64) -> String {
    let difference = now.abs_diff(issued);
    let direction = if now > issued { "ahead of" } else { "behind" };
    format!(
        "the clock of `{device}` is {difference} s {direction} the controller's; set the one that is wrong"
    )
}

/// The most leases of one device at a time. Each is one running `tunnel connect`; 64 people on one computer are more
/// than it can serve.
pub const MAX_LEASES: usize = 64;

/// The most leases of one controller at a device: a quarter, so that others find room whatever one of them does. A `tunnel connect`
/// gives its lease up as soon as it has its stream, so these are connects that have just begun, or have died.
pub const MAX_LEASES_PER_CONTROLLER: usize = MAX_LEASES / 4;
