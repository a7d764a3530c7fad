//! `tunnel stdio`

use std::path::PathBuf;
use std::sync::Arc;

use controller::{Step, Timing, Wanted};

use crate::arguments::Stdio;
use crate::connect::open;
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::runtime::{self, account};
use crate::target;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Stdio) -> Result<u8, Failure> {
    let timing = Timing::start();
    let account = Arc::new(account(dir)?);
    let device = target::parse(&arguments.device, account.id())?.device;
    timing.record(Step::Config, timing.began());
    let wanted = Wanted {
        device,
        service: arguments.service.clone(),
        plain: arguments.opening.plain,
        port: arguments.opening.port,
    };
    runtime::block_on_one_thread(async {
        let interruption = Interruption::watch()?;
        let (tunnel, stream) = open(&account, wanted, &timing, &interruption).await?;
        let device = tunnel.device().clone();
        let spliced = async {
            // ssh reads this file when it checks the device's key, which is after our first byte.
            controller::learn(&account.dir.known_hosts(), &device, tunnel.host_keys()).await?;
            tokio::select! {
                ended = controller::over_stdio(stream, &timing) => Ok::<_, Failure>(Some(ended)),
                _ = interruption.requested() => Ok(None),
            }
        };
        let result = spliced.await;
        tunnel.close().await;
        if arguments.opening.timing {
            output::note(timing.to_json());
        }
        match (result?, interruption.code()) {
            (Some(ended), _) if ended.is_clean() => Ok(exit::OK),
            (Some(ended), _) => {
                let hint = Some("the device, its network or the proxy went away; connect again");
                let text = format!("the stream to `{device}` broke: {}", ended.why);
                Err(Failure::text(text, hint, exit::UNAVAILABLE))
            }
            // Whoever has sent the signal knows why.
            (None, code) => Ok(code.unwrap_or(exit::FAILURE)),
        }
    })
}
