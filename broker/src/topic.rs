//! Topic names and topic filters as MQTT 3.1.1 section 4.7 has them, checked once where they enter.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use protocol::limits::{MAX_TOPIC, MAX_TOPIC_LEVELS};

/// A topic that something is published on: no wildcards, no U+0000, bounded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// What a client subscribes to. `+` stands for one level, `#` at the end for this one and all below.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

/// Why a text is not a topic or not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// MQTT-4.7.3-1.
    #[error("it is empty")]
    Empty,
    /// MQTT-4.7.3-2.
    #[error("it contains U+0000")]
    Nul,
    /// MQTT-3.3.2-2 in a topic, MQTT-4.7.1-2 and MQTT-4.7.1-3 in a filter.
    #[error("it has a wildcard where none may be")]
    Wildcard,
    /// Longer than this broker takes.
    #[error("its {length} bytes are more than {MAX_TOPIC}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// More levels than this broker takes.
    #[error("its levels are more than {MAX_TOPIC_LEVELS}")]
    TooDeep,
}

impl TopicError {
    /// Whether MQTT itself forbids it, and not a limit of this broker: then the connection has to end.
    pub(crate) fn is_malformed(self) -> bool {
        match self {
            Self::Empty | Self::Nul | Self::Wildcard => true,
            Self::TooLong { .. } | Self::TooDeep => false,
        }
    }
}

impl TopicName {
    /// The topic of this text.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_bounds(text)?;
        if text.contains(['+', '#']) {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(text.into()))
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TopicFilter {
    /// The filter of this text.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_bounds(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let is_last = levels.peek().is_none();
            match level {
                "+" => {}
                "#" if is_last => {}
                _ if level.contains(['+', '#']) => return Err(TopicError::Wildcard),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no wildcard, and so matches one topic.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['+', '#'])
    }

    /// What every matching topic begins with.
    pub(crate) fn literal_prefix(&self) -> &str {
        let end = self.0.find(['+', '#']).unwrap_or(self.0.len());
        let prefix = self.0.get(..end).unwrap_or_default();
        // `a/#` also matches `a` (MQTT 3.1.1, section 4.7.1.2), so the slash before `#` is no part of the prefix.
        match self.0.get(end..) {
            Some("#") => prefix.strip_suffix('/').unwrap_or(prefix),
            Some(_) | None => prefix,
        }
    }

    /// Whether the topic is one of those it stands for (MQTT 3.1.1, section 4.7).
    pub fn matches(&self, topic: &TopicName) -> bool {
        let (mut filter, mut levels) = (self.0.split('/'), topic.0.split('/'));
        // MQTT-4.7.2-1
        if topic.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        loop {
            match (filter.next(), levels.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted == level => {}
                (Some(_) | None, Some(_)) | (Some(_), None) => return false,
            }
        }
    }
}

/// So that a map of filters can be asked for a topic; hashes and orders are those of the text.
impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What topics and filters have in common. The order matters: what MQTT forbids is found before what we do not take.
fn check_bounds(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.contains('\0') {
        return Err(TopicError::Nul);
    }
    if text.len() > MAX_TOPIC {
        return Err(TopicError::TooLong { length: text.len() });
    }
    if text.split('/').count() > MAX_TOPIC_LEVELS {
        return Err(TopicError::TooDeep);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    pub(crate) fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    /// Topics of a small alphabet, so that filters meet them.
    pub(crate) fn any_name() -> impl Strategy<Value = TopicName> {
        "[ab$é]{0,2}(/[ab]{0,1}){0,4}".prop_filter_map("empty", |text| TopicName::parse(&text).ok())
    }

    pub(crate) fn any_filter() -> impl Strategy<Value = TopicFilter> {
        "([ab$é]{0,2}|\\+)(/([ab]{0,1}|\\+)){0,4}(/#)?"
            .prop_filter_map("empty", |text| TopicFilter::parse(&text).ok())
    }

    #[test]
    fn filters_match_as_section_4_7_says() {
        for (pattern, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("é/x", "é/x", true),
            ("+/x", "é/x", true),
            ("A", "a", false),
        ] {
            assert_eq!(
                filter(pattern).matches(&name(topic)),
                expected,
                "{pattern} {topic}"
            );
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["a/#/b", "a/b#", "#/a", "a+/b", "++", "a/+b"] {
            assert_eq!(
                TopicFilter::parse(text),
                Err(TopicError::Wildcard),
                "{text}"
            );
        }
        assert_eq!(TopicFilter::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::parse("a\0b"), Err(TopicError::Nul));
        assert_eq!(
            TopicFilter::parse("1/2/3/4/5/6/7/8/9"),
            Err(TopicError::TooDeep)
        );
        assert_eq!(
            TopicFilter::parse(&"a".repeat(MAX_TOPIC + 1)),
            Err(TopicError::TooLong {
                length: MAX_TOPIC + 1
            })
        );
        for text in ["wild/+/x", "#", "a/+"] {
            assert_eq!(TopicName::parse(text), Err(TopicError::Wildcard), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_matching_topic_begins_with_the_prefix(topic in any_name(), filter in any_filter()) {
            if filter.matches(&topic) {
                prop_assert!(topic.as_str().starts_with(filter.literal_prefix()));
            }
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in any::<String>(), other in any::<String>()) {
            if let (Ok(filter), Ok(name)) = (TopicFilter::parse(&text), TopicName::parse(&other)) {
                filter.matches(&name);
            }
        }
    }
}
