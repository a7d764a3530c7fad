//! `tunnel forward`

use std::path::PathBuf;
use std::sync::Arc;

use controller::{Forward, ForwardError, Notice, OpenError, Port};
use protocol::DeviceId;
use serde::Serialize;

use crate::arguments::Forward as Arguments;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::runtime::{self, account};
use crate::target;
use crate::waiting::Waiting;
use crate::web;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Arguments) -> Result<u8, Failure> {
    let account = Arc::new(account(dir)?);
    let device = target::parse(&arguments.device, account.id())?.device;
    let wishes = arguments.wishes.clone();
    runtime::block_on(async {
        let interruption = Interruption::watch()?;
        let begun = {
            let waiting = Waiting::begin();
            let on_wait = |what| waiting.is_for(what);
            Forward::begin(
                account,
                device.clone(),
                wishes,
                on_wait,
                interruption.cancel(),
            )
            .await
        };
        let forward = match (begun, interruption.code()) {
            (Ok(forward), _) => forward,
            (Err(error @ ForwardError::Open(OpenError::Interrupted { .. })), Some(code)) => {
                return Err(Failure::new(error, None, code));
            }
            (Err(error), _) => return Err(error.into()),
        };
        tell(&device, forward.ports(), arguments.json)?;
        let name = device.to_string();
        forward
            .run(move |notice| match notice {
                Notice::Away(why) => {
                    output::note(format_args!("{why}; connections to `{name}` wait for it"));
                }
                Notice::Refused(why) => output::note(why),
                Notice::GivenUp { service, after } => output::note(format_args!(
                    "connections to `{service}` are given up after {} s",
                    after.as_secs()
                )),
                Notice::Again(service) => {
                    output::note(format_args!("connections to `{service}` go through again"));
                }
                Notice::Back => output::note(format_args!("`{name}` can be reached again")),
            })
            .await;
        Ok(interruption.code().unwrap_or(exit::FAILURE))
    })
}

/// Where a service is now.
#[derive(Serialize)]
struct Told {
    device: String,
    service: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

fn tell(device: &DeviceId, ports: &[Port], as_json: bool) -> Result<(), Failure> {
    let told: Vec<Told> = ports
        .iter()
        .map(|port| {
            let (service, address) = (port.service(), port.address.to_string());
            let scheme = web::scheme(&service).or_else(|| web::scheme(port.asked()));
            Told {
                device: device.to_string(),
                service: service.to_string(),
                url: scheme.map(|scheme| format!("{scheme}://{address}")),
                address,
            }
        })
        .collect();
    if as_json {
        let json = serde_json::to_string(&told)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        output::line(json);
        return Ok(());
    }
    for Told {
        device,
        service,
        address,
        url,
    } in told
    {
        let place = url.unwrap_or(address);
        output::line(format_args!("{place} leads to `{service}` of `{device}`"));
    }
    output::note("until Ctrl-C");
    Ok(())
}
