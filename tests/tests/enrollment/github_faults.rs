//! GitHub in trouble: nothing is done twice, nothing is lost, and nobody is asked too often.

use std::time::Duration;

use e2e::github::{Fault, Trouble};
use e2e::{CEILING, Stopwatch, run, wait_until};

use super::github_stage::{Stage, key};

const ISSUES: &str = "/issues";

fn fault(method: &'static str, path: &'static str, trouble: Trouble) -> Fault {
    Fault {
        method,
        path,
        after: 0,
        times: 1,
        trouble,
    }
}

/// Every way in which the call that hands out the certificate can fail.
#[test]
fn a_certificate_is_handed_out_once_whatever_happens_to_the_call() {
    let stage = Stage::new();
    let troubles = [
        Trouble::Before(502),
        Trouble::After(504),
        Trouble::After(500),
        Trouble::CutAfter,
        Trouble::Before(422),
    ];
    for (index, trouble) in troubles.into_iter().enumerate() {
        let device = format!("33{index}");
        let title = format!("{device}.hula.atlas.x509.csr");
        let request = stage.github.open("octo", &title, &stage.request(&device));
        stage.github.fail(fault("POST", ISSUES, trouble));
        stage.sign_once();
        assert!(stage.github.has_failed(), "{trouble:?}");
        stage.sign_once().success();
        let certificates = stage
            .github
            .issues(&format!("{device}.hula.atlas.x509.cert"));
        assert_eq!(certificates.len(), 1, "{trouble:?}: {certificates:?}");
        assert!(!stage.github.issue(request).unwrap().open, "{trouble:?}");
    }
}

#[test]
fn what_a_device_hands_in_is_handed_in_once() {
    let stage = Stage::new();
    for (name, trouble) in [("333", Trouble::After(504)), ("334", Trouble::CutAfter)] {
        let device = stage.device(name);
        // The key, and then the request.
        stage.github.fail(Fault {
            times: 2,
            ..fault("POST", ISSUES, trouble)
        });
        stage.hand_in(&device);
        assert!(stage.github.has_failed());
        for suffix in ["sshkey.pub", "x509.csr"] {
            let issues = stage.github.issues(&format!("{}.{suffix}", device.id()));
            assert_eq!(issues.len(), 1, "{trouble:?}: {issues:?}");
        }
    }
}

#[test]
fn a_refusal_is_told_once_whatever_happens_to_the_call() {
    let stage = Stage::new();
    for (index, trouble) in [Trouble::Before(503), Trouble::After(502), Trouble::CutAfter]
        .into_iter()
        .enumerate()
    {
        let title = format!("33{index}.hula.atlas.x509.csr");
        let number = stage.github.open("octo", &title, "no request at all");
        stage.github.fail(fault("POST", "/comments", trouble));
        for _ in 0..3 {
            stage.sign_once();
        }
        let comments = stage.github.issue(number).unwrap().comments;
        assert_eq!(comments.len(), 1, "{trouble:?}: {comments:?}");
    }
}

#[test]
fn reads_and_closings_are_repeated() {
    let stage = Stage::new();
    let title = "333.hula.atlas.x509.csr";
    let number = stage.github.open("octo", title, &stage.request("333"));
    stage
        .github
        .fail(fault("GET", ISSUES, Trouble::Before(502)));
    stage
        .github
        .fail(fault("POST", "/graphql", Trouble::Before(502)));
    stage.github.fail(fault("PATCH", "/1", Trouble::After(500)));
    stage.sign_once().success();
    assert!(stage.github.has_failed());
    assert!(!stage.github.issue(number).unwrap().open);
    assert_eq!(stage.certificates("333").len(), 1);
}

#[test]
fn a_short_limit_is_sat_out_and_a_long_one_is_told() {
    let stage = Stage::new();
    stage
        .github
        .open("octo", "333.hula.atlas.x509.csr", &stage.request("333"));
    let short = Trouble::RetryAfter {
        status: 429,
        seconds: 2,
    };
    // The certificate's call is not repeated; those after it wait.
    stage.github.fail(fault("POST", ISSUES, short));
    stage.sign_once();
    let watch = Stopwatch::start();
    stage.github.fail(fault("GET", "/user", short));
    stage.sign_once();
    stage.sign_once().success();
    assert_eq!(
        stage.certificates("333").len(),
        1,
        "after {:?}",
        watch.elapsed()
    );
    let long = [
        Trouble::RetryAfter {
            status: 403,
            seconds: 90,
        },
        Trouble::NoneRemaining { seconds: 90 },
    ];
    for trouble in long {
        stage.github.fail(fault("GET", "/user", trouble));
        stage.github.take_calls();
        let told = stage.registry(&["list"]);
        assert_eq!(told.code, Some(69), "{}", told.report());
        assert!(
            told.lines("caused by")[0].starts_with("too many calls; it may be asked again in "),
            "{}",
            told.report()
        );
        assert_eq!(stage.github.take_calls().len(), 1);
    }
}

#[test]
fn a_running_signer_leaves_a_limited_github_alone() {
    let stage = Stage::new();
    let mut signer = stage.world.signer();
    signer.wait_for_line("watching");
    wait_for_quiet(&stage);
    // From before the limit is met: the clock of whoever waits it out may begin long before it is seen here.
    let watch = Stopwatch::start();
    stage.github.fail(fault(
        "GET",
        ISSUES,
        Trouble::RetryAfter {
            status: 403,
            seconds: 6,
        },
    ));
    wait_until("the limit to be met", CEILING, || {
        stage
            .github
            .has_failed()
            .then_some(())
            .ok_or("not yet".to_owned())
    });
    stage.github.take_calls();
    let first = wait_until("the next call", CEILING, || {
        let calls = stage.github.take_calls();
        calls.into_iter().next().ok_or("none".to_owned())
    });
    // It looks each second otherwise.
    assert!(
        watch.elapsed() > Duration::from_secs(4),
        "{first:?} after {:?}",
        watch.elapsed()
    );
}

/// A look with nothing new is two calls, which cost nothing of the limit.
#[test]
fn looking_costs_two_calls_that_are_answered_with_304() {
    let stage = Stage::new();
    for index in 0..250 {
        let device = format!("d{index}.hula.atlas");
        let title = format!("{device}.sshkey.pub");
        stage.github.open("octo", &title, &key(&device));
    }
    let mut signer = stage.world.signer();
    signer.wait_for_line("watching");
    wait_for_quiet(&stage);
    look_without_news(&stage, 5);
    // A key that is deleted without a trace is missed.
    let number = stage.github.issues("d7.hula.atlas.sshkey.pub")[0].number;
    stage.github.delete(number);
    wait_until("all to be read again", CEILING, || {
        let calls = stage.github.take_calls();
        let pages = calls
            .iter()
            .filter(|call| call.query.contains("sort=created"))
            .count();
        (pages > 0).then_some(()).ok_or(format!("{calls:?}"))
    });
    let request = stage
        .github
        .open("octo", "333.hula.atlas.x509.csr", &stage.request("333"));
    wait_until("the request to be closed", CEILING, || {
        let issue = stage.github.issue(request).unwrap();
        (!issue.open).then_some(()).ok_or(format!("{issue:?}"))
    });
}

/// A load of many pages goes on where it was cut.
#[test]
fn a_page_that_was_read_is_not_read_again_when_a_later_one_fails() {
    let stage = Stage::new();
    for index in 0..250 {
        stage
            .github
            .open("mallory", &format!("chat {index}"), "hello");
    }
    stage.github.fail(Fault {
        // The newest one, and the first page.
        after: 2,
        // Each look tries three times.
        times: 6,
        ..fault("GET", ISSUES, Trouble::Before(502))
    });
    let mut signer = stage.world.signer();
    signer.wait_for_line("watching");
    let mut calls = Vec::new();
    wait_until("all pages to be read", CEILING, || {
        calls.extend(stage.github.take_calls());
        let last = calls.last().is_some_and(|call| call.status == 304);
        (last && stage.github.has_failed())
            .then_some(())
            .ok_or(format!("{} calls", calls.len()))
    });
    let pages = calls
        .iter()
        .filter(|call| call.query.contains("sort=created") && call.status == 200);
    assert_eq!(pages.count(), 3, "{calls:?}");
}

/// Signer and key sync of one process share their looks.
#[test]
fn serving_costs_no_more_calls_than_signing() {
    let stage = Stage::new();
    stage.github.take_calls();
    let mut serve = stage.world.serve();
    serve.wait_for_line("watching");
    wait_for_quiet(&stage);
    look_without_news(&stage, 10);
    // And yet a new key comes to the proxy.
    let key = key("333.hula.atlas");
    stage.github.open("octo", "333.hula.atlas.sshkey.pub", &key);
    let file = stage
        .world
        .realm()
        .join("proxy/keys/333.hula.atlas.sshkey.pub");
    wait_until("the key", CEILING, || {
        file.exists().then_some(()).ok_or("not there".to_owned())
    });
}

#[test]
fn an_invalid_token_and_a_missing_repository_are_named() {
    let stage = Stage::new();
    stage.github.revoke(&stage.bot);
    let told = stage.registry(&["list"]);
    assert_eq!(told.code, Some(78), "{}", told.report());
    assert_eq!(told.lines("caused by"), ["the token is not valid"]);
    assert_eq!(told.lines("hint").len(), 1);
    stage.keep_token(&stage.github.token("atlas-bot", true));
    let file = stage.world.realm().join("realm.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("octo/tunnels", "octo/missing")).unwrap();
    let told = stage.registry(&["list"]);
    assert_eq!(told.code, Some(78), "{}", told.report());
    assert!(
        told.stderr.contains("the issues of octo/missing"),
        "{}",
        told.report()
    );
    let mut check = stage.world.tunnel();
    check
        .args(["registry", "list", "--dir"])
        .arg(stage.world.realm());
    assert_eq!(run(&mut check, CEILING).code, Some(78));
}

/// Waits for so many looks. Each second there is one, of two calls that cost nothing; two that do not share theirs, or that
/// look more often, make more calls.
#[track_caller]
fn look_without_news(stage: &Stage, looks: usize) {
    let watch = Stopwatch::start();
    let mut calls = Vec::new();
    wait_until("the looks", CEILING, || {
        calls.extend(stage.github.take_calls());
        (calls.len() >= 2 * looks)
            .then_some(())
            .ok_or(calls.len().to_string())
    });
    let seconds = usize::try_from(watch.elapsed().as_secs()).unwrap() + 1;
    assert!(calls.iter().all(|call| call.status == 304), "{calls:?}");
    // And one look that was under way.
    assert!(
        calls.len() <= (seconds + 2) * 2,
        "{} calls in {seconds}",
        calls.len()
    );
}

/// Waits until the signer has found nothing new.
#[track_caller]
fn wait_for_quiet(stage: &Stage) {
    let mut seen = Vec::new();
    wait_until("a look with nothing new", CEILING, || {
        for call in stage.github.take_calls() {
            if call.status == 304 {
                seen.push(call);
            } else {
                seen.clear();
            }
        }
        (seen.len() >= 2).then_some(()).ok_or(format!("{seen:?}"))
    });
}
