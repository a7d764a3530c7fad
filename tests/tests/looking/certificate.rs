//! Certificates of the realm's authority whose time is not the usual one (`openssl ca`).

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, World, run, tool};
use time::{Duration, OffsetDateTime};

/// Has a world's authority certify a device's key again, from so many days from now until so many. The subject stays.
#[track_caller]
pub(super) fn certify(world: &World, key: &Path, certificate: &Path, days: (i64, i64)) {
    let (place, realm) = (tempfile::tempdir().unwrap(), world.realm());
    let path = |name: &str| place.path().join(name);
    let openssl = |words: &[&str]| {
        let mut command = Command::new(tool("openssl"));
        command.args(words);
        command
    };
    let mut request = openssl(&["x509", "-x509toreq", "-in"]);
    request
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .arg("-out")
        .arg(path("csr"));
    run(&mut request, CEILING).success();
    let settings = format!(
        "[ca]\ndefault_ca = d\n[d]\ndatabase = {index}\nserial = {serial}\nnew_certs_dir = {folder}\n\
         default_md = sha256\npolicy = p\nx509_extensions = e\n\
         [p]\ncommonName = supplied\norganizationalUnitName = supplied\norganizationName = supplied\n\
         [e]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
         extendedKeyUsage = clientAuth\n",
        index = path("index").display(),
        serial = path("serial").display(),
        folder = place.path().display(),
    );
    fs::write(path("settings"), settings).unwrap();
    fs::write(path("index"), "").unwrap();
    fs::write(path("serial"), "1000\n").unwrap();
    let date = |days: i64| {
        let format = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
        (OffsetDateTime::now_utc() + Duration::days(days))
            .format(format)
            .unwrap()
    };
    let mut sign = openssl(&["ca", "-batch", "-notext", "-config"]);
    sign.arg(path("settings"))
        .arg("-in")
        .arg(path("csr"))
        .arg("-out")
        .arg(certificate)
        .args(["-startdate", &date(days.0), "-enddate", &date(days.1)])
        .arg("-cert")
        .arg(realm.join("ca/ca.cert"))
        .arg("-keyfile")
        .arg(realm.join("ca/ca.key"));
    run(&mut sign, CEILING).success();
}
