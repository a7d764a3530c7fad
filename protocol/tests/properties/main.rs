//! Whatever is written can be read back as the same; whatever arrives is read or refused, and never panics.
#![expect(clippy::unwrap_used, reason = "what is wrong in a test ends the test")]

mod strategies;

use std::str::FromStr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use protocol::limits::{
    MAX_LIFETIME, MAX_NAME, MAX_PAYLOAD, MAX_PLAIN, MAX_TOPIC, MAX_TOPIC_LEVELS,
};
use protocol::{
    ClientIdSuffix, DecodeError, DeviceId, Label, LeaseId, Order, PlainOrder, PlainState, Presence,
    Reply, Role, Topic,
};
use serde_json::Value;

use crate::strategies::{
    any_text, device_id, json, label, lease, message, mutation, order, plain_state, presence,
    reply, suffix, topic,
};

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn names_read_back(label in label(), id in device_id(), suffix in suffix(), lease in lease()) {
        prop_assert_eq!(&reparsed(&label), &label);
        prop_assert_eq!(&reparsed(&id), &id);
        prop_assert_eq!(&reparsed(&suffix), &suffix);
        prop_assert_eq!(reparsed(&lease), lease);
        prop_assert_eq!(through_json(&label), label);
        prop_assert_eq!(through_json(&id), id);
        prop_assert_eq!(through_json(&suffix), suffix);
        prop_assert_eq!(through_json(&lease), lease);
    }

    #[test]
    fn a_client_id_names_one_device(id in device_id(), suffix in suffix(), other in suffix()) {
        let client_id = suffix.client_id(&id);
        if client_id.len() <= MAX_NAME {
            prop_assert_eq!(suffix.device_id(&client_id), Ok(id.clone()));
        } else {
            prop_assert!(suffix.device_id(&client_id).is_err());
        }
        // Another realm's suffix never makes this client id into some device of that realm.
        if other != suffix {
            prop_assert!(other.device_id(&client_id).is_err());
        }
    }

    #[test]
    fn the_role_is_in_the_first_letters(rest in "[a-z0-9]{0,20}", label in label()) {
        let controller: Label = format!("controller{rest}").parse().unwrap();
        prop_assert_eq!(Role::of(&controller), Role::Controller);
        let expected = if label.as_str().starts_with("controller") { Role::Controller } else { Role::Target };
        prop_assert_eq!(Role::of(&label), expected);
    }

    #[test]
    fn topics_read_back_and_fit(topic in topic()) {
        let text = topic.to_string();
        prop_assert!(text.len() <= MAX_TOPIC);
        prop_assert!(text.split('/').count() <= MAX_TOPIC_LEVELS);
        prop_assert_eq!(reparsed(&topic), topic);
    }

    #[test]
    fn orders_read_back(order in order()) {
        prop_assert_eq!(Order::decode(&order.encode()).unwrap(), order);
    }

    #[test]
    fn replies_read_back_unless_they_are_too_large(reply in reply()) {
        let payload = reply.encode();
        match Reply::decode(&payload) {
            Ok(read) => prop_assert_eq!(read, reply),
            Err(DecodeError::TooLarge { length, cap }) => {
                prop_assert_eq!((length, cap), (payload.len(), MAX_PAYLOAD));
                prop_assert!(length > cap);
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn presences_read_back(presence in presence()) {
        prop_assert_eq!(Presence::decode(&presence.encode()).unwrap(), presence);
    }

    #[test]
    fn plain_words_read_back(state in plain_state()) {
        let text = state.to_string();
        prop_assert!(text.len() <= MAX_PLAIN);
        prop_assert_eq!(PlainState::decode(text.as_bytes()), Some(state));
    }

    #[test]
    fn unknown_members_change_nothing(order in order(), reply in reply(), presence in presence(), extra in json()) {
        let with_extra = |payload: &[u8]| {
            let mut message: Value = serde_json::from_slice(payload).unwrap();
            message["later-member"] = extra.clone();
            serde_json::to_vec(&message).unwrap()
        };
        let payload = with_extra(&order.encode());
        prop_assume!(payload.len() <= MAX_PAYLOAD);
        prop_assert_eq!(Order::decode(&payload).unwrap(), order);
        let payload = with_extra(&presence.encode());
        prop_assert_eq!(Presence::decode(&payload).unwrap(), presence);
        let payload = with_extra(&reply.encode());
        prop_assume!(payload.len() <= MAX_PAYLOAD);
        prop_assert_eq!(Reply::decode(&payload).unwrap(), reply);
    }

    #[test]
    fn an_order_is_fresh_throughout_its_life(order in order(), after in 0..=u64::from(MAX_LIFETIME)) {
        match &order {
            Order::Open { issued, lifetime, .. } => {
                let within = after.min(u64::from(lifetime.as_secs()));
                prop_assert!(!order.is_stale(issued.saturating_add(within)));
                // An hour and the skew later no order is fresh, whatever its lifetime.
                if let Some(late) = issued.checked_add(u64::from(MAX_LIFETIME) + 301) {
                    prop_assert!(order.is_stale(late));
                }
            }
            Order::Close { .. } => prop_assert!(!order.is_stale(after)),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(payload in vec(any::<u8>(), 0..600)) {
        read_everything(&payload)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        read_everything(text.as_bytes())?;
    }

    #[test]
    fn any_json_is_read_or_refused(value in json()) {
        read_everything(&serde_json::to_vec(&value).unwrap())?;
    }

    #[test]
    fn spoilt_messages_are_read_or_refused(message in message(), spoiled in vec(mutation(), 1..4)) {
        let mut value: Value = serde_json::from_slice(&message).unwrap();
        for mutation in &spoiled {
            mutation.apply(&mut value);
        }
        read_everything(&serde_json::to_vec(&value).unwrap())?;
    }

    #[test]
    fn spoilt_bytes_are_read_or_refused(
        message in message(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message;
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_everything(&bytes)?;
        read_everything(&bytes[..end.index(bytes.len())])?;
    }
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    for open in ["[", "{\"v\":", "{\"services\":["] {
        let payload = open.repeat(MAX_PAYLOAD / open.len());
        assert!(Order::decode(payload.as_bytes()).is_err());
        assert!(Reply::decode(payload.as_bytes()).is_err());
        assert!(Presence::decode(payload.as_bytes()).is_err());
    }
}

/// Gives the payload to every parser; what is read must be written back as the same.
fn read_everything(payload: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(order) = Order::decode(payload) {
        prop_assert_eq!(Order::decode(&order.encode()).unwrap(), order);
    }
    if let Ok(reply) = Reply::decode(payload) {
        prop_assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
    }
    if let Ok(presence) = Presence::decode(payload) {
        prop_assert_eq!(Presence::decode(&presence.encode()).unwrap(), presence);
    }
    if let Some(order) = PlainOrder::decode(payload) {
        let text = order.to_string();
        prop_assert_eq!(text.as_bytes(), payload);
    }
    if let Some(state) = PlainState::decode(payload) {
        prop_assert_eq!(
            PlainState::decode(state.to_string().as_bytes()),
            Some(state)
        );
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return Ok(());
    };
    same_text::<Label>(text)?;
    same_text::<DeviceId>(text)?;
    same_text::<ClientIdSuffix>(text)?;
    same_text::<LeaseId>(text)?;
    same_text::<Topic>(text)?;
    if let Ok(id) = ClientIdSuffix::default().device_id(text) {
        prop_assert_eq!(id.to_string(), text);
    }
    Ok(())
}

/// What is taken prints as it came: no two texts name the same thing.
fn same_text<T: FromStr + ToString>(text: &str) -> Result<(), TestCaseError> {
    if let Ok(read) = text.parse::<T>() {
        prop_assert_eq!(read.to_string(), text);
    }
    Ok(())
}

fn reparsed<T: FromStr<Err: std::fmt::Debug> + ToString>(value: &T) -> T {
    value.to_string().parse().unwrap()
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}
