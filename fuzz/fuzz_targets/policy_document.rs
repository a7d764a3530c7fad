//! Any document is refused with a reason that can be printed, or is a policy that can be bound to a realm and decides.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use policies::{Action, Subject};

fuzz_target!(|document: &[u8]| {
    let policy = match policies::parse(document) {
        Ok(policy) => policy,
        Err(refusal) => return drop(refusal.to_string()),
    };
    let bound = policy.bind("atlas").expect("`atlas` is a name");
    let subject = Subject::new("333.hula.atlas").expect("a client id");
    // The document itself is as good a resource as any: long, and with every character that a pattern may have.
    let resource = String::from_utf8_lossy(document);
    for action in [
        Action::Connect,
        Action::Publish,
        Action::Subscribe,
        Action::Receive,
    ] {
        let _ = black_box(bound.decide(&subject, action, "atlas/hula/333/tunnel/presence"));
        let _ = black_box(bound.decide(&subject, action, &resource));
    }
});
