//! `openssl` as a verifier and as a maker of requests that our own code would not make.

use std::path::Path;
use std::process::Command;

/// Runs `openssl` in a directory. Gives both streams, and whether it ended well.
pub(crate) fn try_run(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Runs `openssl`, which has to end well.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> String {
    let (well, text) = try_run(directory, arguments);
    assert!(well, "openssl {arguments:?}: {text}");
    text
}

/// A new key and a request for it. `key` is what follows `-newkey`.
pub(crate) fn request(key: &[&str], subject: &str, more: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let arguments = [
        &[
            "req", "-new", "-noenc", "-keyout", "key", "-out", "csr", "-subj", subject, "-newkey",
        ],
        key,
        more,
    ];
    run(home.path(), &arguments.concat());
    std::fs::read_to_string(home.path().join("csr")).unwrap()
}

/// What follows `-newkey` for the key type of our own requests.
pub(crate) const P256: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
