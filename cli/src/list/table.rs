//! The list of devices as a table.

use std::fmt::Write;

use controller::Listed;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::paint::Paint;

/// A table of these devices: its head, and a line for each. No line is wider than `width`.
pub(crate) fn table(devices: &[&Listed], width: usize, paint: Paint) -> Vec<String> {
    let rows: Vec<Row> = devices.iter().map(|device| Row::of(device)).collect();
    let longest = |of: fn(&Row) -> &str, head: &str| {
        let all = rows.iter().map(|row| of(row).chars().count());
        all.max().unwrap_or(0).max(head.len())
    };
    let (name, version, proxy) = (
        longest(|row| &row.name, "DEVICE"),
        longest(|row| &row.version, "VERSION"),
        longest(|row| &row.proxy, "PROXY"),
    );
    let rest = |since: &str, a: &str, b: &str, c: &str| {
        format!("  {since:23}  {a:version$}  {b:proxy$}  {c}")
    };
    let mut lines = Vec::with_capacity(rows.len() + 1);
    let head = rest("SINCE", "VERSION", "PROXY", "CONNECTED");
    let head = cut(&format!("{:name$}  {:7}{head}", "DEVICE", "STATE"), width);
    lines.push(paint.bold(&head));
    for row in &rows {
        let first = format!("{:name$}  ", row.name);
        let state = if row.online { "online " } else { "offline" };
        let last = rest(&row.since, &row.version, &row.proxy, &row.controllers);
        let plain = format!("{first}{state}{last}");
        let line = cut(&plain, width);
        // Coloured only where nothing was cut away of it.
        let behind = line
            .strip_prefix(&first)
            .and_then(|line| line.strip_prefix(state.trim_end()));
        lines.push(match behind {
            Some(behind) if row.online => format!("{first}{}{behind}", paint.green("online")),
            Some(behind) => format!("{first}{}{behind}", paint.red("offline")),
            None => line,
        });
    }
    lines
}

struct Row {
    name: String,
    online: bool,
    since: String,
    version: String,
    proxy: String,
    controllers: String,
}

impl Row {
    fn of(listed: &Listed) -> Self {
        let Listed {
            device,
            online,
            since,
            lost,
            version,
            proxy,
            controllers,
        } = listed;
        // Of a lost session only its beginning is known.
        let before = if *lost { "<" } else { "" };
        let mut names = String::new();
        for controller in controllers {
            let comma = if names.is_empty() { "" } else { ", " };
            let _ = write!(names, "{comma}{controller}");
        }
        Self {
            name: device.to_string(),
            online: *online,
            since: format!("{before}{}", date(*since)),
            version: printable(version),
            proxy: printable(proxy.as_deref().unwrap_or_default()),
            controllers: names,
        }
    }
}

/// A device says what it likes of itself: what would turn a line round, or take more room or less than a column, is not shown.
/// Versions and addresses are ASCII.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.chars().map(shown).collect()
}

/// `2026-11-22 00:00:00Z`
pub(crate) fn date(unix: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|date| date.format(format).ok())
        .unwrap_or_else(|| "?".to_owned())
}

/// A line without what is empty at its end, and with a mark where it did not fit.
pub(crate) fn cut(line: &str, width: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> [Listed; 2] {
        let device = |name: &str, online, lost| Listed {
            device: name.parse().unwrap(),
            online,
            since: 1_795_305_600,
            lost,
            version: "0.1.0".to_owned(),
            proxy: online.then(|| "proxy.example.org:2222".to_owned()),
            controllers: if online {
                vec![
                    "controller-a".parse().unwrap(),
                    "controller-b".parse().unwrap(),
                ]
            } else {
                Vec::new()
            },
        };
        [
            device("333.hula.atlas", true, false),
            device("barn-7.hula.atlas", false, true),
        ]
    }

    #[test]
    fn the_table_lines_up() {
        let devices = devices();
        let lines = table(&devices.each_ref(), usize::MAX, Paint::NONE);
        insta::assert_snapshot!(lines.join("\n"), @r"
        DEVICE             STATE    SINCE                    VERSION  PROXY                   CONNECTED
        333.hula.atlas     online   2026-11-22 00:00:00Z     0.1.0    proxy.example.org:2222  controller-a, controller-b
        barn-7.hula.atlas  offline  <2026-11-22 00:00:00Z    0.1.0
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_narrow_lines() {
        let devices = devices();
        for width in [1, 12, 21, 24, 40, 80] {
            for line in table(&devices.each_ref(), width, Paint::NONE) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        let mut odd = devices[0].clone();
        // It is read from right to left, takes no room, and takes two columns.
        odd.version = "1\u{202e}2\u{200b}3\u{5bb6}".to_owned();
        odd.proxy = Some("\u{1b}[2J".to_owned());
        odd.since = u64::MAX;
        let shown = table(&[&odd], usize::MAX, Paint::NONE).join("\n");
        assert!(
            shown.contains("  1?2?3?  ") && shown.contains("  ?[2J  "),
            "{shown}"
        );
        let painted = table(&devices.each_ref(), 30, Paint::COLOURS);
        assert_eq!(
            painted[1],
            "333.hula.atlas     \u{1b}[32monline\u{1b}[0m   2…"
        );
    }
}
