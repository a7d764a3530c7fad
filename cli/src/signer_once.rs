//! `tunnel signer run --once`

use std::path::PathBuf;

use signer::Outcome;

use crate::arguments::SignerRun;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime;
use crate::serve::Realm;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &SignerRun) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?.attended(arguments)?;
    let (signer, registry) = realm.signer()?;
    let outcomes = runtime::block_on(async {
        signer.ready().await?;
        registry.check_signer().await?;
        Ok(signer.once(&registry).await?)
    })?;
    let mut code = exit::OK;
    for (title, outcome) in outcomes {
        match outcome {
            Outcome::Signed { serial } => {
                output::line(format_args!("{title}: signed, serial {serial}"));
            }
            Outcome::HandedOut { serial } => {
                output::line(format_args!("{title}: handed out again, serial {serial}"));
            }
            Outcome::Refused(refusal) => output::line(format_args!(
                "{title}: refused: {}; {}",
                refusal.reason(),
                refusal.remedy()
            )),
            Outcome::Undecided => output::line(format_args!("{title}: not decided")),
            Outcome::StillRefused => output::line(format_args!("{title}: was refused before")),
            Outcome::Failed => {
                output::line(format_args!("{title}: failed, will be tried again"));
                code = exit::FAILURE;
            }
        }
    }
    Ok(code)
}
