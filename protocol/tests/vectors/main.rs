//! The vectors of `docs/protocol.md`, run: the page is normative, so what it shows must be so.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is wrong in a test ends the test"
)]

mod messages;
mod page;

use std::collections::BTreeMap;

use protocol::{
    ClientIdSuffix, DeviceId, Label, LeaseId, Lifetime, NameError, Order, PlainOrder, PlainState,
    Role, Topic, TopicError, filter, limits,
};

use crate::page::table;

#[test]
fn labels() {
    for row in table("label", 22) {
        let [text, result] = row.cells();
        let got = match text.parse::<Label>() {
            Ok(label) => {
                assert_eq!(label.to_string(), text);
                "ok"
            }
            Err(reason) => name_error(&reason),
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn ids() {
    for row in table("id", 16) {
        let [text, result, role] = row.cells();
        let got = match text.parse::<DeviceId>() {
            Ok(id) => {
                assert_eq!(id.to_string(), text);
                let named = match id.role() {
                    Role::Controller => "controller",
                    Role::Target => "target",
                };
                assert_eq!(named, role, "{text:?}");
                "ok"
            }
            Err(reason) => name_error(&reason),
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn client_ids() {
    for row in table("client-id", 11) {
        let [suffix, client_id, device_id] = row.cells();
        let read = suffix
            .parse::<ClientIdSuffix>()
            .and_then(|suffix| Ok((suffix.device_id(&client_id)?, suffix)));
        let got = match read {
            Ok((id, suffix)) => {
                assert_eq!(suffix.client_id(&id), client_id);
                id.to_string()
            }
            Err(reason) => format!("refused {}", name_error(&reason)),
        };
        assert_eq!(got, device_id, "{client_id:?} with {suffix:?}");
    }
}

#[test]
fn lease_ids() {
    for row in table("lease", 7) {
        let [text, result] = row.cells();
        let got = match text.parse::<LeaseId>() {
            Ok(id) => {
                assert_eq!(id.to_string(), text);
                "ok"
            }
            Err(_) => "refused",
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn topics() {
    for row in table("topic", 21) {
        let [text, meaning] = row.cells();
        let read = text.parse::<Topic>();
        if let Ok(topic) = &read {
            assert_eq!(topic.to_string(), text);
            assert!(text.split('/').count() <= limits::MAX_TOPIC_LEVELS);
        }
        let got = match read {
            Ok(Topic::Order { device, controller }) => {
                format!("order to {device} from {controller}")
            }
            Ok(Topic::Reply { controller, device }) => {
                format!("reply to {controller} from {device}")
            }
            Ok(Topic::Presence(device)) => format!("presence of {device}"),
            Ok(Topic::PlainControl(device)) => format!("plain order to {device}"),
            Ok(Topic::PlainState(device)) => format!("plain state of {device}"),
            Err(TopicError::Name(_)) => "refused name".to_owned(),
            Err(TopicError::TooLong { .. }) => "refused too-long".to_owned(),
            Err(TopicError::Unknown) => "refused unknown".to_owned(),
            Err(other) => panic!("{other:?} has no word in the page"),
        };
        assert_eq!(got, meaning, "{text:?}");
    }
}

#[test]
fn filters() {
    for row in table("filter", 4) {
        let [who, what, expected] = row.cells();
        let who: DeviceId = who.parse().unwrap();
        let got = match what.as_str() {
            "orders" => filter::orders(&who),
            "plain orders" => Topic::PlainControl(who).to_string(),
            "replies" => filter::replies(&who),
            "presences" => filter::presences(who.realm(), who.system()),
            other => panic!("no filter for {other:?}"),
        };
        assert_eq!(got, expected, "{what}");
    }
}

#[test]
fn stale_orders() {
    for row in table("stale", 11) {
        let [issued, lifetime, now, stale] = row.cells();
        let order = Order::Open {
            lease: lease("000102030405060708090a0b0c0d0e0f"),
            services: vec!["ssh".parse().unwrap()],
            issued: issued.parse().unwrap(),
            lifetime: Lifetime::from_secs(lifetime.parse().unwrap()).unwrap(),
        };
        let got = if order.is_stale(now.parse().unwrap()) {
            "yes"
        } else {
            "no"
        };
        assert_eq!(
            got, stale,
            "issued {issued}, lifetime {lifetime}, now {now}"
        );
    }
}

#[test]
fn plain_orders() {
    for row in table("plain-order", 9) {
        let [payload, expected] = row.cells();
        let read = PlainOrder::decode(payload.as_bytes());
        let got = read.map_or_else(|| "unknown".to_owned(), |order| order.to_string());
        assert_eq!(got, expected, "{payload:?}");
    }
}

#[test]
fn plain_states() {
    for row in table("plain-state", 18) {
        let [payload, state, written] = row.cells();
        let read = PlainState::decode(payload.as_bytes());
        let got = match read {
            None => "unknown".to_owned(),
            Some(PlainState::Disconnected) => "disconnected".to_owned(),
            Some(PlainState::Connected { port: None }) => "connected".to_owned(),
            Some(PlainState::Connected { port: Some(port) }) => format!("connected {port}"),
        };
        assert_eq!(got, state, "{payload:?}");
        assert_eq!(
            read.map(|state| state.to_string()).unwrap_or_default(),
            written
        );
    }
}

#[test]
fn limits_are_those_of_the_page() {
    let constants: BTreeMap<&str, u64> = BTreeMap::from([
        ("MAX_LABEL", limits::MAX_LABEL as u64),
        ("MAX_NAME", limits::MAX_NAME as u64),
        ("MAX_PAYLOAD", limits::MAX_PAYLOAD as u64),
        ("MAX_PLAIN", limits::MAX_PLAIN as u64),
        ("MAX_TOPIC", limits::MAX_TOPIC as u64),
        ("MAX_TOPIC_LEVELS", limits::MAX_TOPIC_LEVELS as u64),
        ("MAX_SERVICES", limits::MAX_SERVICES as u64),
        ("MAX_CONTROLLERS", limits::MAX_CONTROLLERS as u64),
        ("MAX_HOST_KEYS", limits::MAX_HOST_KEYS as u64),
        ("MAX_HOST_KEY", limits::MAX_HOST_KEY as u64),
        ("MAX_TEXT", limits::MAX_TEXT as u64),
        ("MAX_VERSION", limits::MAX_VERSION as u64),
        ("MAX_ADDRESS", limits::MAX_ADDRESS as u64),
        ("MAX_LIFETIME", u64::from(limits::MAX_LIFETIME)),
        ("CLOCK_SKEW", limits::CLOCK_SKEW),
    ]);
    let rows = table("limit", constants.len());
    let page: BTreeMap<String, u64> = rows
        .into_iter()
        .map(|row| {
            let [name, value, _of] = row.cells();
            (name, value.parse().unwrap())
        })
        .collect();
    let code: BTreeMap<String, u64> = constants
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(page, code);
}

fn name_error(error: &NameError) -> &'static str {
    match error {
        NameError::Empty => "empty",
        NameError::LabelTooLong { .. } => "label-too-long",
        NameError::IdTooLong { .. } => "id-too-long",
        NameError::Character { .. } => "character",
        NameError::Hyphen => "hyphen",
        NameError::Parts { .. } => "parts",
        NameError::Suffix { .. } => "suffix",
        other => panic!("{other:?} has no word in the page"),
    }
}

fn lease(text: &str) -> LeaseId {
    text.parse().unwrap()
}
