//! Streams that wait: for a forward that is on its way, or for a member with room.
//!
//! Each waits at its own place, and is woken only by what happens there: a thousand streams that wait for a thousand devices
//! do not wake each other.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::{DeviceId, Label};
use tokio::sync::Notify;

use super::entry::Slot;
use crate::crowd::one_less;
use crate::limits::{Limits, SSH_PORT};

/// Who waits, and where.
#[derive(Debug)]
pub(super) struct Waiting {
    in_all: usize,
    per_controller: usize,
    per_system: usize,
    next: u64,
    waiters: HashMap<WaiterId, Waiter>,
    places: HashMap<Slot, Vec<(WaiterId, Arc<Notify>)>>,
    controllers: HashMap<DeviceId, usize>,
    systems: HashMap<Label, usize>,
}

/// One stream that waits. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaiterId(u64);

/// Why a stream may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many streams are waiting for their devices")]
pub struct TooManyWaiting;

impl Waiting {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            in_all: limits.waiting,
            per_controller: limits.waiting_per_controller,
            per_system: limits.waiting_per_system,
            next: 0,
            waiters: HashMap::new(),
            places: HashMap::new(),
            controllers: HashMap::new(),
            systems: HashMap::new(),
        }
    }

    /// Begins to wait, in vain if there is no place. The bell rings for each change there, also for one between the last
    /// look and the first wait.
    pub(super) fn begin(
        &mut self,
        at: Option<Slot>,
        controller: &DeviceId,
    ) -> Result<(WaiterId, Arc<Notify>), TooManyWaiting> {
        let of_controller = self.controllers.get(controller).copied().unwrap_or(0);
        let of_system = self.systems.get(controller.system()).copied().unwrap_or(0);
        if self.waiters.len() >= self.in_all
            || of_controller >= self.per_controller
            || of_system >= self.per_system
        {
            return Err(TooManyWaiting);
        }
        let id = WaiterId(self.next);
        self.next += 1;
        let bell = Arc::new(Notify::new());
        if let Some(at) = &at {
            let here = self.places.entry(at.clone()).or_default();
            here.push((id, Arc::clone(&bell)));
        }
        self.controllers
            .insert(controller.clone(), of_controller + 1);
        self.systems
            .insert(controller.system().clone(), of_system + 1);
        let controller = controller.clone();
        self.waiters.insert(id, Waiter { at, controller });
        Ok((id, bell))
    }

    pub(super) fn end(&mut self, id: WaiterId) {
        let Some(Waiter { at, controller }) = self.waiters.remove(&id) else {
            return;
        };
        if let Some(at) = at
            && let Some(here) = self.places.get_mut(&at)
        {
            here.retain(|(waiter, _)| *waiter != id);
            if here.is_empty() {
                self.places.remove(&at);
            }
        }
        one_less(&mut self.systems, controller.system());
        one_less(&mut self.controllers, &controller);
    }

    /// Something has changed for the better at this place of this device.
    pub(super) fn wake(&self, slot: &Slot, owner: &DeviceId) {
        self.ring(slot);
        if matches!(slot, Slot::Port(..)) {
            // The device's first port may stand for its name.
            self.ring(&Slot::Service(owner.clone(), SSH_PORT));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nothing at all is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
            && self.places.is_empty()
            && self.controllers.is_empty()
            && self.systems.is_empty()
    }

    fn ring(&self, slot: &Slot) {
        for (_, bell) in self.places.get(slot).into_iter().flatten() {
            bell.notify_one();
        }
    }
}

#[derive(Debug)]
struct Waiter {
    at: Option<Slot>,
    controller: DeviceId,
}
