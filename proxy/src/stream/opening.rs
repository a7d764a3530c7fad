//! A member's side of a stream, from the request to the answer.

use std::sync::Arc;

use daemon::splice::ChannelEnd;
use protocol::DeviceId;
use russh::ChannelOpenFailure;
use russh::server::Msg;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use crate::crowd::Place;
use crate::hub::{Hub, Reach};
use crate::rendezvous::{Chosen, ConnectionId};

/// A member's side that is being opened. If it is dropped, a channel that is open by then, or opens after all, is closed again.
pub(super) struct Opening {
    hub: Arc<Hub>,
    pub(super) connection: ConnectionId,
    device: DeviceId,
    answer: oneshot::Receiver<(Result<ChannelEnd<Msg>, russh::Error>, Claim)>,
    deadline: Instant,
}

/// A member's side of a stream, open.
pub(super) struct Found {
    pub(super) end: ChannelEnd<Msg>,
    pub(super) device: DeviceId,
    pub(super) claim: Claim,
}

/// A stream's place on a member, and among the streams of its device, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    hub: Arc<Hub>,
    pub(super) connection: ConnectionId,
    _served: Place,
}

impl Opening {
    pub(super) fn begin(
        hub: &Arc<Hub>,
        chosen: Chosen<Reach>,
        controller: &DeviceId,
        end: Instant,
    ) -> Result<Self, Failure> {
        let Chosen {
            connection,
            device,
            reach: Reach { handle, flow },
            address,
            port,
        } = chosen;
        let served = hub.streams_served.enter(&device).map_err(|crowded| {
            hub.table().release(connection);
            Failure::Crowded(crowded)
        })?;
        let claim = Claim {
            hub: Arc::clone(hub),
            connection,
            _served: served,
        };
        // Who it is from tells the device's log more than an address would.
        let originator = controller.to_string();
        let (sender, answer) = oneshot::channel();
        hub.tasks.spawn(async move {
            let opening =
                handle.channel_open_forwarded_tcpip(address, u32::from(port), originator, 0);
            let opened = opening.await.map(|channel| ChannelEnd::new(channel, flow));
            if let Err((Ok(unwanted), _claim)) = sender.send((opened, claim)) {
                unwanted.close().await;
            }
        });
        Ok(Self {
            hub: Arc::clone(hub),
            connection,
            device,
            answer,
            deadline: end.min(Instant::now() + hub.limits.open_deadline),
        })
    }

    pub(super) async fn opened(&mut self) -> Result<Found, Failure> {
        match timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok((Ok(end), claim))) => Ok(Found {
                end,
                device: self.device.clone(),
                claim,
            }),
            Ok(Ok((Err(russh::Error::ChannelOpenFailure(failure)), _claim))) => match failure {
                // It is full, and another of its connections may not be.
                ChannelOpenFailure::ResourceShortage => Err(Failure::Unreachable),
                failure @ (ChannelOpenFailure::AdministrativelyProhibited
                | ChannelOpenFailure::ConnectFailed
                | ChannelOpenFailure::UnknownChannelType
                | ChannelOpenFailure::Other { .. }) => {
                    Err(Failure::Device(failure.description().to_owned()))
                }
            },
            Ok(Ok((Err(_), _)) | Err(_)) | Err(_) => Err(Failure::Unreachable),
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok((Ok(unwanted), claim)) = self.answer.try_recv() {
            self.hub.tasks.spawn(async move {
                unwanted.close().await;
                drop(claim);
            });
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hub.table().release(self.connection);
    }
}
