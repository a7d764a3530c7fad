//! A stream that is asked for by the device's name before the device has answered.
//!
//! The proxy lets it wait for the device, and opens it as soon as somebody can take it: the answer and the stream then arrive
//! together, and the two round trips of a request that waits for the answer are saved. The answer alone still decides.
//! Whatever goes wrong with the early stream is no failure: it is asked for again by the port that the answer names.

use daemon::device_file::SSH_SERVICE;
use daemon::ssh::PeerKind;
use daemon::ssh_client::{Dialed, OPEN_LIMIT};
use tokio::time::Instant;

use super::{OpenError, Stream};
use crate::attempt::{Opened, Ports};
use crate::order::Asked;
use crate::timing::{Step, Timing};

/// Waits for the answer, and for the early stream beside it. The stream is `None` when there is none, or it may lead
/// elsewhere than to the service.
pub(super) async fn beside(
    ordering: impl Future<Output = Result<Opened, OpenError>>,
    proxy: &Dialed,
    asked: &Asked,
    timing: &Timing,
    on_wait: &impl Fn(&'static str),
) -> Result<(Opened, Option<Stream>), OpenError> {
    // Only our own proxy knows names, and only one service has its port by custom.
    if proxy.kind() != PeerKind::Own || asked.service.as_str() != SSH_SERVICE {
        return Ok((ordering.await?, None));
    }
    let early = async {
        let began = Instant::now();
        let name = asked.device.device().as_str();
        let opened = proxy.open(name, SSH_PORT, OPEN_LIMIT).await;
        (opened, began)
    };
    let mut early = std::pin::pin!(early);
    let mut ordering = std::pin::pin!(ordering);
    let (opened, ended) = tokio::select! {
        opened = &mut ordering => (opened?, None),
        ended = &mut early => (ordering.await?, Some(ended)),
    };
    let (result, began) = if let Some(ended) = ended {
        ended
    } else {
        // The forward stands now, so it comes soon or not at all.
        on_wait("the stream");
        early.await
    };
    match result {
        Ok(stream) if leads_to(&opened, asked) => {
            timing.record(Step::Stream, began);
            Ok((opened, Some(stream)))
        }
        Ok(_elsewhere) => Ok((opened, None)),
        Err(error) => {
            tracing::debug!(%error, "no stream by name; asking by port");
            Ok((opened, None))
        }
    }
}

/// A name stands for the first port that its device forwards: is that the one which was asked for?
fn leads_to(opened: &Opened, asked: &Asked) -> bool {
    match &opened.forwards {
        Ports::Ssh(_) => true,
        Ports::Named(forwards) => forwards
            .first()
            .is_some_and(|first| first.service == asked.service),
    }
}

/// The port at which a device's name means its sshd.
const SSH_PORT: u16 = 22;

#[cfg(test)]
mod tests {
    use protocol::{Forward, LeaseId};

    use super::*;

    #[test]
    fn a_name_is_trusted_only_for_the_service_that_is_forwarded_first() {
        let asked = Asked {
            controller: "controller-a.hula.atlas".parse().unwrap(),
            device: "333.hula.atlas".parse().unwrap(),
            service: "ssh".parse().unwrap(),
            lease: LeaseId::from_bytes([1; 16]),
        };
        let opened = |services: &[&str]| Opened {
            proxy: None,
            forwards: Ports::Named(
                services
                    .iter()
                    .map(|service| Forward {
                        service: service.parse().unwrap(),
                        port: 40_000,
                    })
                    .collect(),
            ),
            host_keys: Vec::new(),
        };
        assert!(leads_to(&opened(&["ssh", "web"]), &asked));
        assert!(!leads_to(&opened(&["web", "ssh"]), &asked));
        assert!(!leads_to(&opened(&[]), &asked));
    }
}
