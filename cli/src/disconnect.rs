//! `tunnel disconnect`

use std::path::PathBuf;

use crate::arguments::Disconnect;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{self, account};
use crate::target;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Disconnect) -> Result<u8, Failure> {
    let account = account(dir)?;
    let device = target::parse(&arguments.device, account.id())?.device;
    runtime::block_on(async {
        controller::disconnect(&account, &device, arguments.plain).await?;
        output::note(format_args!(
            "`{device}` has given up this controller's tunnels"
        ));
        Ok(exit::OK)
    })
}
