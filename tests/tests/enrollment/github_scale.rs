//! A thousand requests in one repository: what they cost in calls. `cargo xtask bench registry` measures the rest.

use e2e::{CEILING, run};

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
    run(&mut stage.signer_once(), CEILING * 4).success();
    let calls = stage.github.take_calls();
    let count = |method: &str, ending: &str| {
        let calls = calls.iter();
        calls
            .filter(|call| call.method == method && call.path.ends_with(ending))
            .count()
    };
    for index in 0..REQUESTS {
        assert_eq!(stage.certificates(&format!("d{index}")).len(), 1, "{index}");
    }
    // One to make the certificate and one to close the request: no more can be spared; the rest grows by the hundred.
    let made = (count("POST", "/issues"), count("PATCH", ""));
    assert_eq!(made, (REQUESTS, REQUESTS));
    let queries = count("POST", "/graphql");
    assert_eq!(queries, REQUESTS / 100);
    let others = calls.len() - made.0 - made.1 - queries;
    assert_eq!(others, count("GET", ""), "nothing else is written");
    assert!(others < 50, "{others} reads");
}
