//! A thousand requests in one repository.

use std::process::Stdio;

use e2e::{CEILING, Stopwatch, wait_until};

use super::github_stage::Stage;

const REQUESTS: usize = 1000;

#[test]
fn a_thousand_requests_are_signed_in_one_run() {
    let stage = Stage::new();
    for index in 0..REQUESTS {
        let device = format!("d{index}");
        let title = format!("{device}.hula.atlas.x509.csr");
        stage.github.open("octo", &title, &stage.request(&device));
    }
    stage.github.take_calls();
    let watch = Stopwatch::start();
    let mut command = stage.signer_once();
    let mut signer = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = wait_until("the run to end", CEILING * 4, || {
        let file = format!("/proc/{}/status", signer.id());
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default());
        signer
            .try_wait()
            .unwrap()
            .ok_or_else(|| "running".to_owned())
    });
    let seconds = watch.elapsed().as_secs_f64();
    assert!(status.success(), "{status}");
    let calls = stage.github.take_calls();
    let count = |method: &str| calls.iter().filter(|call| call.method == method).count();
    let queries = calls
        .iter()
        .filter(|call| call.path == "/api/graphql")
        .count();
    println!(
        "{REQUESTS} requests: {} calls ({} reads, {} issues made, {} closed, {queries} queries), {seconds:.1} s, {} MiB",
        calls.len(),
        count("GET"),
        count("POST") - queries,
        count("PATCH"),
        peak / 1024,
    );
    for index in 0..REQUESTS {
        assert_eq!(stage.certificates(&format!("d{index}")).len(), 1, "{index}");
    }
    // One to make the certificate and one to close the request: no more can be spared; the rest grows by the hundred.
    assert_eq!(
        (count("POST") - queries, count("PATCH")),
        (REQUESTS, REQUESTS)
    );
    assert!(calls.len() < 2 * REQUESTS + 250, "{} calls", calls.len());
    assert!(peak < 128 * 1024, "{peak} KiB");
}
