//! Bytes that compress badly and differ at every place, so that a lost, doubled or moved block shows.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;

use crate::{CEILING, run, tool};

/// Writes a file of `size` pseudo-random bytes.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn random_file(path: &Path, size: usize) {
    let mut file = BufWriter::new(File::create(path).expect("the test's folder is writable"));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut left = size;
    while left > 0 {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let take = left.min(bytes.len());
        file.write_all(bytes.get(..take).unwrap_or_default())
            .expect("the test's folder has room");
        left -= take;
    }
    file.flush().expect("the test's folder has room");
}

/// Length and FNV-1a sum of a file.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn checksum(path: &Path) -> (u64, u64) {
    let mut reader = BufReader::new(File::open(path).expect("the file exists"));
    let mut buffer = vec![0; 1 << 16];
    let (mut length, mut sum) = (0, 0xcbf2_9ce4_8422_2325_u64);
    loop {
        let got = reader.read(&mut buffer).expect("the file can be read");
        if got == 0 {
            return (length, sum);
        }
        length += got as u64;
        for byte in buffer.iter().take(got) {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Writes a file of `size` bytes of the kernel's noise, which is faster than [`random_file`] where there are many.
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn noise_file(path: &Path, size: u64) {
    let mut noise = File::open("/dev/urandom")
        .expect("every Linux has noise")
        .take(size);
    File::create(path)
        .and_then(|mut file| io::copy(&mut noise, &mut file))
        .expect("the test's folder has room");
}

/// The SHA-256 of a file, as `sha256sum` prints it.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn sha256(path: &Path) -> String {
    let outcome = run(Command::new(tool("sha256sum")).arg(path), CEILING).success();
    let sum = outcome.stdout.split(' ').next();
    sum.unwrap_or_default().to_owned()
}

/// Whether a file is the beginning of another, or all of it.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn is_beginning(part: &Path, whole: &Path) -> bool {
    let length = fs::metadata(part).expect("the file exists").len();
    let mut cmp = Command::new(tool("cmp"));
    cmp.args(["-n", &length.to_string()]).args([part, whole]);
    run(&mut cmp, CEILING).code == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_changes_the_sum() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("random");
        random_file(&file, 1001);
        let before = checksum(&file);
        assert_eq!(before.0, 1001);
        let mut bytes = fs::read(&file).unwrap();
        bytes[500] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_ne!(checksum(&file), before);
    }

    #[test]
    fn a_beginning_is_told_from_a_changed_one() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, part) = (folder.path().join("whole"), folder.path().join("part"));
        noise_file(&whole, 5000);
        let mut bytes = fs::read(&whole).unwrap();
        assert_eq!(bytes.len(), 5000);
        bytes.truncate(3000);
        fs::write(&part, &bytes).unwrap();
        assert!(is_beginning(&part, &whole));
        assert_ne!(sha256(&part), sha256(&whole));
        bytes[2999] ^= 1;
        fs::write(&part, &bytes).unwrap();
        assert!(!is_beginning(&part, &whole));
    }
}
