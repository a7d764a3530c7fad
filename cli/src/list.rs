//! `tunnel list`

mod filter;
mod screen;
mod table;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use controller::Listed;

use self::filter::Filter;
use crate::arguments::List;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::paint::Paint;
use crate::runtime::{self, account};
use crate::seen_devices::SeenDevices;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &List) -> Result<u8, Failure> {
    let account = account(dir)?;
    let filter = Filter::new(&arguments.which);
    if arguments.watch {
        return runtime::block_on(watch::run(Arc::new(account), filter, arguments.json));
    }
    let devices = runtime::block_on(async { Ok(controller::list(&account).await?) })?;
    SeenDevices::keep(&account.dir, &devices);
    let shown: Vec<&Listed> = devices
        .iter()
        .filter(|device| filter.takes(device))
        .collect();
    if arguments.json {
        let json = serde_json::to_string_pretty(&shown)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        output::line(json);
    } else if devices.is_empty() {
        output::note(format_args!(
            "system `{}` has no device that has ever been online",
            account.id().system()
        ));
    } else if shown.is_empty() {
        output::note(format_args!(
            "none of the {} devices of system `{}` is of that kind",
            devices.len(),
            account.id().system()
        ));
    } else {
        let lines = table::table(&shown, usize::MAX, Paint::for_stdout());
        lines.iter().for_each(output::line);
    }
    Ok(exit::OK)
}
