//! One entry of a directory as `ls -l` would show it, which clients show as it is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use rustix::fs::FileType;
use time::{Duration, OffsetDateTime};

/// The line for an entry; names of users would need the whole list of them, so they are numbers.
pub(super) fn line(name: &[u8], metadata: &Metadata, now: OffsetDateTime) -> Vec<u8> {
    let mut line = format!(
        "{} {:>4} {:<8} {:<8} {:>8} {} ",
        mode(metadata.mode()),
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.len(),
        date(metadata.mtime(), now),
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}

fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::RegularFile => '-',
        FileType::Unknown => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, set, bare) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => bare,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// With the time of day for half a year, as `ls` has it; in UTC.
fn date(seconds: i64, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::from_unix_timestamp(seconds) else {
        return "-".to_owned();
    };
    let month: String = then.month().to_string().chars().take(3).collect();
    let day = then.day();
    if then <= now && now - then < Duration::days(183) {
        format!("{month} {day:>2} {:02}:{:02}", then.hour(), then.minute())
    } else {
        format!("{month} {day:>2}  {:>4}", then.year())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_ls_shows_them() {
        for (number, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o104_755, "-rwsr-xr-x"),
            (0o041_777, "drwxrwxrwt"),
            (0o106_644, "-rwSr-Sr--"),
            (0o120_777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(number), text);
        }
    }

    #[test]
    fn old_files_have_a_year() {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        assert_eq!(date(1_699_999_000, now), "Nov 14 21:56");
        assert_eq!(date(1_000_000_000, now), "Sep  9  2001");
        assert_eq!(date(1_800_000_000, now), "Jan 15  2027");
        assert_eq!(date(i64::MAX, now), "-");
    }
}
