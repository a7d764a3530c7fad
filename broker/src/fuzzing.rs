//! What reads bytes from the network, for the targets of `fuzz/`; no ordinary build has it.

use bytes::BytesMut;

use crate::connect::{Connect, is_connect};
use crate::message::Qos;
use crate::packet::{Request, frame, is_request};
use crate::subscriptions::Subscriptions;
use crate::topic::{TopicFilter, TopicName};

/// Reads packets of a connected client until there is none or one is refused; how many were good.
///
/// # Panics
/// When a packet is read that cannot be one.
pub fn packets(bytes: &[u8]) -> usize {
    let mut inbound = BytesMut::from(bytes);
    let mut good = 0;
    while let Ok(Some(frame)) = frame(&mut inbound, is_request) {
        match frame.request() {
            // No packet holds more than its own bytes, and none asks for nothing.
            Ok(Request::Publish(message, _)) => assert!(message.payload.len() < bytes.len()),
            Ok(Request::Subscribe(_, filters)) => assert!(!filters.is_empty()),
            Ok(
                Request::PubAck(_) | Request::Unsubscribe(..) | Request::Ping | Request::Disconnect,
            ) => {}
            Err(_) => break,
        }
        good += 1;
    }
    good
}

/// Reads the first packet of a connection; whether it is a CONNECT that can be served.
pub fn connect(bytes: &[u8]) -> bool {
    let frame = frame(&mut BytesMut::from(bytes), is_connect);
    let Ok(Some(frame)) = frame else {
        return false;
    };
    let connect = Connect::parse(&frame);
    connect.is_ok_and(|connect| !connect.client_id.contains('\0'))
}

/// Whether this topic is found by this filter, which the two ways of looking have to agree on.
///
/// # Panics
/// When they do not.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (Ok(filter), Ok(topic)) = (TopicFilter::parse(filter), TopicName::parse(topic)) else {
        return false;
    };
    let mut subscriptions = Subscriptions::default();
    subscriptions.insert(&filter, 1, Qos::AtMostOnce);
    let mut found = 0;
    subscriptions.matching(&topic, |_, _| found += 1);
    let expected = filter.matches(&topic);
    assert_eq!(found, usize::from(expected), "{filter} {topic}");
    assert!(!expected || topic.as_str().starts_with(filter.literal_prefix()));
    expected
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The seeds of a target are good ones, or the fuzzer would begin with nothing.
    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        let files = fs::read_dir(folder.join(target)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let seeds: Vec<_> = files
            .map(|file| {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read(file).unwrap())
            })
            .collect();
        assert!(seeds.len() > 2, "{target}");
        seeds
    }

    #[test]
    fn the_seeds_are_good() {
        for (name, bytes) in seeds("broker_packets") {
            assert!(packets(&bytes) > 0, "{name}");
        }
        for (name, bytes) in seeds("broker_connect") {
            assert_eq!(connect(&bytes), name != "five", "{name}");
        }
        for (name, bytes) in seeds("broker_topics") {
            let text = String::from_utf8(bytes).unwrap();
            let (filter, topic) = text.split_once('\n').unwrap();
            assert_eq!(matches(filter, topic), name != "dollar", "{name}");
        }
    }

    proptest! {
        #[test]
        fn changed_seeds_never_panic(which in any::<prop::sample::Index>(), changes in vec(any::<(prop::sample::Index, u8)>(), 0..4)) {
            let seeds = [seeds("broker_packets"), seeds("broker_connect")].concat();
            let mut bytes = which.get(&seeds).1.clone();
            for (place, byte) in changes {
                *place.get_mut(&mut bytes) = byte;
            }
            packets(&bytes);
            connect(&bytes);
        }
    }
}
