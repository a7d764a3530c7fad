//! What a broker is seen to send, read by the letter of the standard and not with the codec of the broker under test.

use std::fmt;

/// A packet from a broker, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    ConnAck {
        present: bool,
        code: u8,
    },
    /// A CONNACK of MQTT 5: its reason.
    ConnAckOfFive(u8),
    Publish(Heard),
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    PingResp,
    /// What no server may send.
    Wrong(Vec<u8>),
    /// The connection has ended.
    Closed,
    /// It has not, but nothing comes for as long as a test waits.
    Silence,
}

/// A message as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 when there is none.
    pub(crate) id: u16,
}

/// Takes the first packet out of what has come, when it is whole.
pub(crate) fn take(received: &mut Vec<u8>) -> Option<Seen> {
    let mut length = 0;
    let mut end = 1;
    loop {
        let byte = *received.get(end)?;
        length |= usize::from(byte & 0x7f) << (7 * (end - 1));
        end += 1;
        if byte < 0x80 {
            break;
        }
        assert!(end <= 4, "a length of five bytes: {received:02x?}");
    }
    if received.len() < end + length {
        return None;
    }
    let bytes: Vec<u8> = received.drain(..end + length).collect();
    Some(read(bytes[0], &bytes[end..]).unwrap_or(Seen::Wrong(bytes)))
}

fn read(first: u8, body: &[u8]) -> Option<Seen> {
    Some(match (first, body) {
        (0x20, [flags @ 0..=1, code @ 0..=5]) => Seen::ConnAck {
            present: *flags == 1,
            code: *code,
        },
        // Only MQTT 5 has properties behind the reason.
        (0x20, [0..=1, reason, _, ..]) => Seen::ConnAckOfFive(*reason),
        (0x30..=0x3f, _) => Seen::Publish(heard(first, body)?),
        (0x40, [high, low]) => Seen::PubAck(id(*high, *low)),
        (0x50, [high, low]) => Seen::PubRec(id(*high, *low)),
        (0x62, [high, low]) => Seen::PubRel(id(*high, *low)),
        (0x70, [high, low]) => Seen::PubComp(id(*high, *low)),
        (0x90, [high, low, codes @ ..]) if codes.iter().all(|code| CODES.contains(code)) => {
            Seen::SubAck(id(*high, *low), codes.to_vec())
        }
        (0xb0, [high, low]) => Seen::UnsubAck(id(*high, *low)),
        (0xd0, []) => Seen::PingResp,
        _ => return None,
    })
}

fn heard(first: u8, body: &[u8]) -> Option<Heard> {
    let qos = first >> 1 & 3;
    let (high, low) = (*body.first()?, *body.get(1)?);
    let (topic, rest) = body.get(2..)?.split_at_checked(id(high, low).into())?;
    let (id, payload) = match (qos, rest) {
        (0, payload) => (0, payload),
        // MQTT-2.3.1-1: not 0.
        (1 | 2, [high, low, payload @ ..]) if id(*high, *low) > 0 => (id(*high, *low), payload),
        _ => return None,
    };
    Some(Heard {
        topic: String::from_utf8(topic.to_vec()).ok()?,
        payload: String::from_utf8(payload.to_vec()).ok()?,
        qos,
        retain: first & 1 != 0,
        dup: first & 8 != 0,
        id,
    })
}

fn id(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// MQTT-3.9.3-2
const CODES: [u8; 4] = [0, 1, 2, 0x80];

/// Without packet identifiers, which a broker is free to choose.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnAck { present, code } => {
                write!(f, "CONNACK {code}")?;
                f.write_str(if *present { " session present" } else { "" })
            }
            Self::ConnAckOfFive(reason) => write!(f, "CONNACK of MQTT 5 {reason:#04x}"),
            Self::Publish(heard) => {
                write!(f, "`{}` on {}", heard.payload, heard.topic)?;
                write!(f, " QoS {}", heard.qos)?;
                f.write_str(if heard.retain { " retained" } else { "" })?;
                f.write_str(if heard.dup { " again" } else { "" })
            }
            Self::PubAck(_) => f.write_str("PUBACK"),
            Self::PubRec(_) => f.write_str("PUBREC"),
            Self::PubRel(_) => f.write_str("PUBREL"),
            Self::PubComp(_) => f.write_str("PUBCOMP"),
            Self::SubAck(_, codes) => {
                f.write_str("SUBACK")?;
                codes.iter().try_for_each(|code| write!(f, " {code}"))
            }
            Self::UnsubAck(_) => f.write_str("UNSUBACK"),
            Self::PingResp => f.write_str("PINGRESP"),
            Self::Wrong(bytes) => write!(f, "what no server may send: {bytes:02x?}"),
            Self::Closed => f.write_str("closed"),
            Self::Silence => f.write_str("silence"),
        }
    }
}
