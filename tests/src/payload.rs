//! Bytes that compress badly and differ at every place, so that a lost, doubled or moved block shows.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

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
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[500] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert_ne!(checksum(&file), before);
    }
}
