//! `tunnel list`

use std::path::PathBuf;

use controller::Listed;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::arguments::List;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::runtime::{self, account};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &List) -> Result<u8, Failure> {
    let account = account(dir)?;
    let devices = runtime::block_on(async { Ok(controller::list(&account).await?) })?;
    if arguments.json {
        let json = serde_json::to_string_pretty(&devices)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        output::line(json);
    } else if devices.is_empty() {
        output::note(format_args!(
            "system `{}` has no device that has ever been online",
            account.id().system()
        ));
    } else {
        table(&devices).iter().for_each(output::line);
    }
    Ok(exit::OK)
}

fn table(devices: &[Listed]) -> Vec<String> {
    let width = devices
        .iter()
        .map(|device| device.device.to_string().len())
        .max()
        .unwrap_or(0)
        .max("DEVICE".len());
    let mut lines = vec![format!(
        "{:width$}  {:7}  {:23}  VERSION",
        "DEVICE", "STATE", "SINCE"
    )];
    for Listed {
        device,
        online,
        since,
        lost,
        version,
    } in devices
    {
        let (device, state) = (
            device.to_string(),
            if *online { "online" } else { "offline" },
        );
        // Of a lost session only its beginning is known.
        let before = if *lost { "<" } else { "" };
        let since = format!("{before}{}", date(*since));
        lines.push(
            format!("{device:width$}  {state:7}  {since:23}  {version}")
                .trim_end()
                .to_owned(),
        );
    }
    lines
}

fn date(unix: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|date| date.format(format).ok())
        .unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let device = |name: &str, online, lost| Listed {
            device: name.parse().unwrap(),
            online,
            since: 1_795_305_600,
            lost,
            version: "0.1.0".to_owned(),
        };
        let devices = [
            device("333.hula.atlas", true, false),
            device("barn-7.hula.atlas", false, true),
        ];
        insta::assert_snapshot!(table(&devices).join("\n"), @r"
        DEVICE             STATE    SINCE                    VERSION
        333.hula.atlas     online   2026-11-22 00:00:00Z     0.1.0
        barn-7.hula.atlas  offline  <2026-11-22 00:00:00Z    0.1.0
        ");
    }
}
