//! The original's grammar: single words of plain text.

use std::fmt;

use crate::limits::MAX_PLAIN;

/// An order in the plain grammar, on [`Topic::PlainControl`](crate::Topic::PlainControl).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainOrder {
    /// `connect`
    Connect,
    /// `disconnect`
    Disconnect,
}

/// A device's state in the plain grammar, on [`Topic::PlainState`](crate::Topic::PlainState).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainState {
    /// `connected|port=NNNNN`. The original's controller takes this without a port too, and so do we.
    Connected {
        /// The port at the proxy.
        port: Option<u16>,
    },
    /// `disconnected`
    Disconnected,
}

impl PlainOrder {
    /// Reads an order: the exact word, case-sensitive, not trimmed, as the original does. `None` is an unknown word,
    /// which a device answers with its state.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match payload {
            b"connect" => Some(Self::Connect),
            b"disconnect" => Some(Self::Disconnect),
            _ => None,
        }
    }
}

impl PlainState {
    /// Reads a state. Fields other than `port`, and ports that are not numbers, are ignored, as the original does, and so
    /// is port 0, which nobody can connect to; `None` is an unknown word.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload)
            .ok()
            .filter(|text| text.len() <= MAX_PLAIN)?;
        if text == "disconnected" {
            return Some(Self::Disconnected);
        }
        let fields = text.strip_prefix("connected")?.split('|');
        let port = fields
            .filter_map(|field| field.strip_prefix("port=")?.parse().ok())
            .rfind(|port| *port != 0);
        Some(Self::Connected { port })
    }
}

impl fmt::Display for PlainOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
        })
    }
}

impl fmt::Display for PlainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { port: Some(port) } => write!(f, "connected|port={port}"),
            Self::Connected { port: None } => f.write_str("connected"),
            Self::Disconnected => f.write_str("disconnected"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_exact_words() {
        assert_eq!(PlainOrder::decode(b"connect"), Some(PlainOrder::Connect));
        assert_eq!(
            PlainOrder::decode(b"disconnect"),
            Some(PlainOrder::Disconnect)
        );
        for unknown in ["connect ", "Connect", "connect\n", "", "status"] {
            assert_eq!(PlainOrder::decode(unknown.as_bytes()), None, "{unknown:?}");
        }
    }

    #[test]
    fn states_are_read_as_leniently_as_the_original_reads_them() {
        let port = |text: &str| PlainState::decode(text.as_bytes());
        assert_eq!(
            port("connected|port=61333"),
            Some(PlainState::Connected { port: Some(61333) })
        );
        assert_eq!(
            port("connected|x=1|port=61333|y=z"),
            Some(PlainState::Connected { port: Some(61333) })
        );
        assert_eq!(
            port("connected|port=x"),
            Some(PlainState::Connected { port: None })
        );
        assert_eq!(
            port("connected|port=70000"),
            Some(PlainState::Connected { port: None })
        );
        assert_eq!(port("disconnected"), Some(PlainState::Disconnected));
        assert_eq!(port("disconnected "), None);
        assert_eq!(port(&format!("connected|{}", "x".repeat(300))), None);
    }
}
