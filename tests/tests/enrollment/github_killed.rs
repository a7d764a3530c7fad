//! The bot killed (`kill -9`) at each of its calls to GitHub, before the call has its effect and after it, and started
//! again: what was begun is finished, and nothing is done twice.

use e2e::github::{Fault, Trouble};
use e2e::{CEILING, wait_until};

use super::github_stage::Stage;
use super::signer::list;

const REQUEST: &str = "333.hula.atlas.x509.csr";

/// Runs a signer that is killed while it waits for the answer to its call of this number. False if it made fewer calls.
#[track_caller]
fn is_killed_at(stage: &Stage, call: usize, trouble: Trouble) -> bool {
    stage.github.fail(Fault {
        method: "",
        path: "",
        after: call - 1,
        times: 1,
        trouble,
    });
    let mut signer = stage.world.daemon("killed", &mut stage.signer_once());
    let ended = wait_until("the call or the end", CEILING, || {
        if stage.github.has_failed() {
            return Ok(false);
        }
        signer.has_ended().map(|_| true).ok_or(signer.stderr())
    });
    if !ended {
        signer.kill();
    }
    stage.github.forgive();
    !ended
}

/// Kills signers at the first call, the second and so on, each with a GitHub of its own, and looks what comes of it. Returns
/// at how many calls one was killed.
#[track_caller]
fn kill_at_each_call(body: impl Fn(&Stage) -> String, look: impl Fn(&Stage, u64, &str)) -> usize {
    for call in 1.. {
        let mut killed = false;
        for trouble in [Trouble::SilenceBefore, Trouble::SilenceAfter] {
            let stage = Stage::new();
            let request = stage.github.open("octo", REQUEST, &body(&stage));
            killed = is_killed_at(&stage, call, trouble);
            stage.sign_once().success();
            let what = format!("killed at call {call}: {killed}, {trouble:?}");
            look(&stage, request, &what);
            // And nothing is left to do.
            stage.github.take_calls();
            stage.sign_once().success();
            let calls = stage.github.take_calls();
            let writes = |method: &str, path: &str| {
                method == "PATCH" || method == "POST" && path != "/api/graphql"
            };
            assert!(
                !calls.iter().any(|call| writes(&call.method, &call.path)),
                "{what}: {calls:?}"
            );
        }
        if !killed {
            return call - 1;
        }
    }
    unreachable!("a signer ends")
}

#[test]
fn a_request_gets_one_certificate_wherever_the_bot_is_killed() {
    let calls = kill_at_each_call(
        |stage| stage.request("333"),
        |stage, request, what| {
            assert!(!stage.github.issue(request).unwrap().open, "{what}");
            let certificates = stage.github.issues("333.hula.atlas.x509.cert");
            assert_eq!(certificates.len(), 1, "{what}: {certificates:?}");
            assert!(certificates[0].open, "{what}");
            let signed = list(&stage.world);
            assert_eq!(signed.len(), 1, "{what}: {signed:?}");
            assert_eq!(signed[0]["state"], "valid", "{what}");
            let serial = signed[0]["serial"].as_str().unwrap();
            assert_eq!(serial_of(stage, &certificates[0].body), serial, "{what}");
        },
    );
    // Who am I, what is there (4), who has edited it; then the certificate, and the end of the request.
    assert!(calls >= 8, "killed at {calls} calls");
    println!("killed at each of {calls} calls, before and after");
}

#[test]
fn a_refusal_is_told_once_wherever_the_bot_is_killed() {
    let calls = kill_at_each_call(
        |_| "no request at all".to_owned(),
        |stage, request, what| {
            let issue = stage.github.issue(request).unwrap();
            assert!(issue.open, "{what}");
            assert_eq!(issue.comments.len(), 1, "{what}: {:?}", issue.comments);
            assert!(issue.comments[0].body.contains("what to do: "), "{what}");
            assert!(stage.certificates("333").is_empty(), "{what}");
            assert!(list(&stage.world).is_empty(), "{what}");
        },
    );
    assert!(calls >= 7, "killed at {calls} calls");
    println!("killed at each of {calls} calls, before and after");
}

/// As `openssl` reads it.
#[track_caller]
fn serial_of(stage: &Stage, certificate: &str) -> String {
    let file = stage.world.path("certificate");
    std::fs::write(&file, certificate).unwrap();
    let mut openssl = std::process::Command::new(e2e::tool("openssl"));
    openssl.args(["x509", "-noout", "-serial", "-in"]).arg(file);
    let said = e2e::run(&mut openssl, CEILING).success().stdout;
    said.trim().strip_prefix("serial=").unwrap().to_owned()
}
