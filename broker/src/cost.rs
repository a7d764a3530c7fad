//! What a client's wishes cost it, in tokens of [`Limits::rate`](crate::limits::Limits::rate): about 20 µs of a core each.

use crate::limits::{
    CONNECT_TOKENS, FILTER_TOKENS, FOUND_PER_TOKEN, RETAIN_TOKENS, WALKED_PER_TOKEN,
};
use crate::message::Message;
use crate::packet::Request;

/// What is known when a request comes; what a SUBSCRIBE finds, and an acknowledgement of nothing, is seen later.
pub(crate) fn of_request(request: &Request) -> u32 {
    match request {
        Request::PubAck(_) | Request::Disconnect => 0,
        Request::Ping => 1,
        Request::Publish(message, _) => of_message(message),
        Request::Subscribe(_, filters) => of_filters(filters.len()),
        Request::Unsubscribe(_, filters) => of_filters(filters.len()),
    }
}

/// A CONNECT, with the will that it has published sooner or later.
pub(crate) fn of_connect(will: Option<&Message>) -> u32 {
    CONNECT_TOKENS.saturating_add(will.map_or(0, of_message))
}

/// The retained messages that a SUBSCRIBE had to look at, and how many of them it has found.
pub(crate) fn of_search(walked: usize, found: usize) -> u32 {
    tokens(walked.saturating_sub(found) / WALKED_PER_TOKEN + found / FOUND_PER_TOKEN)
}

/// One for each KiB that is begun, and more for one that is written to the disk.
fn of_message(message: &Message) -> u32 {
    let size = tokens(message.weight().div_ceil(1024).max(1));
    if message.retain {
        size.saturating_add(RETAIN_TOKENS)
    } else {
        size
    }
}

fn of_filters(filters: usize) -> u32 {
    tokens(filters).saturating_mul(FILTER_TOKENS)
}

fn tokens(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Qos;
    use crate::topic::tests::name;

    fn message(size: usize, retain: bool) -> Message {
        Message::new(name("t"), &vec![b'x'; size - 1], Qos::AtLeastOnce, retain)
    }

    #[test]
    fn a_message_costs_by_its_size_and_more_when_it_is_retained() {
        for (size, retain, tokens) in [
            (1, false, 1),
            (1024, false, 1),
            (1025, false, 2),
            (16 * 1024, false, 16),
            (1024, true, 1 + RETAIN_TOKENS),
        ] {
            assert_eq!(of_message(&message(size, retain)), tokens, "{size}");
        }
    }

    #[test]
    fn a_will_is_paid_for_with_its_connect() {
        assert_eq!(of_connect(None), CONNECT_TOKENS);
        let will = message(2048, true);
        assert_eq!(of_connect(Some(&will)), CONNECT_TOKENS + 2 + RETAIN_TOKENS);
    }

    #[test]
    fn a_subscription_costs_what_it_finds() {
        assert_eq!(of_search(0, 0), 0);
        assert_eq!(of_search(9_000, 0), 90);
        assert_eq!(of_search(9_000, 9_000), 450);
    }
}
