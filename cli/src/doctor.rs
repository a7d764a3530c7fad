//! `tunnel doctor`

mod broker;
mod builtin;
mod certificate;
mod clock;
#[cfg(feature = "controller")]
mod device;
mod findings;
mod leg;
mod mqtt;
mod own;
mod proxy;
mod services;
mod ssh_banner;
mod way;

use std::path::PathBuf;

use daemon::device_dir::{DeviceDir, Membership};
use protocol::{DeviceId, Role};

use self::broker::Met;
use self::findings::Findings;
use self::own::Own;
use crate::arguments::Doctor;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::runtime;

/// Looks at each leg, and goes on after one that is broken as far as the next do not need it.
pub(crate) fn run(dir: Option<PathBuf>, arguments: &Doctor) -> Result<u8, Failure> {
    let dir = runtime::device_dir(dir)?;
    let mut findings = Findings::new(arguments.json);
    runtime::block_on(async {
        let interruption = Interruption::watch()?;
        if let Some(membership) = own::configuration(&dir, &mut findings) {
            let device = device(arguments.device.as_deref(), &membership)?;
            let ways = ways(&dir, membership, &mut findings);
            let (own, met, is_let_in) = tokio::select! {
                seen = ways => seen,
                code = interruption.requested() => return Ok(code),
            };
            if own.membership.id.role() == Role::Target {
                tokio::select! {
                    () = services::examine(&own, &mut findings) => {}
                    code = interruption.requested() => return Ok(code),
                }
            }
            #[cfg(feature = "controller")]
            if let Some(device) = device {
                device::examine(own, &met, is_let_in, device, &interruption, &mut findings).await;
                if let Some(code) = interruption.code() {
                    return Ok(code);
                }
            }
            #[cfg(not(feature = "controller"))]
            let _ = (met, is_let_in, device);
        }
        findings.finish()?;
        Ok(findings.code())
    })
}

/// The ways to broker and proxy: what this computer has, what the broker has told, and whether the proxy lets it in.
async fn ways(
    dir: &DeviceDir,
    membership: Membership,
    findings: &mut Findings,
) -> (Own, Met, bool) {
    let own = own::keys(dir, membership, findings);
    certificate::examine(&own, findings);
    let met = broker::examine(&own, findings).await;
    clock::examine(&own, &met, findings);
    let is_let_in = proxy::examine(&own, findings).await;
    (own, met, is_let_in)
}

/// The device that was named, which only a controller can go to.
fn device(named: Option<&str>, membership: &Membership) -> Result<Option<DeviceId>, Failure> {
    let own = &membership.id;
    match named {
        None => Ok(None),
        #[cfg(feature = "controller")]
        Some(name) if own.role() == Role::Controller => {
            Ok(Some(crate::target::parse(name, own)?.device))
        }
        Some(_) => Err(Failure::text(
            format!(
                "`{own}` cannot go to other devices: it is no controller, or this build is an agent's alone"
            ),
            Some("`tunnel doctor` without a device looks at this computer"),
            exit::USAGE,
        )),
    }
}
