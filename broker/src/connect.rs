//! The CONNECT packet, and what is answered to one that is refused.

use std::time::Duration;

use rumqttc::mqttbytes::v4;

use crate::message::{Message, Qos};
use crate::packet::{Frame, PacketError};
use crate::topic::{TopicError, TopicName};

/// A CONNECT of MQTT 3.1.1 without violations. Its client id and will are not decided yet.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) clean_session: bool,
    /// None when the client asked for none.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) will: Option<Message>,
}

/// Why a CONNECT is refused before anybody is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConnectError {
    /// Of another version; those clients are told.
    #[error("the client speaks MQTT with protocol level {level}, not 4")]
    Version { level: u8 },
    #[error("the client speaks another protocol than MQTT")]
    Foreign,
    #[error("the will's topic is beyond the limits")]
    WillTopic(#[source] TopicError),
    #[error("the will cannot be of `QoS` 2")]
    WillQos,
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// Whether a connection may begin with this byte (MQTT-3.1.0-1, MQTT-2.2.2-2).
pub(crate) fn is_connect(byte: u8) -> bool {
    byte == 0x10
}

/// MQTT 3.1.1 CONNACK with a return code of section 3.2.2.3.
pub(crate) const fn refused(code: v4::ConnectReturnCode) -> [u8; 4] {
    [0x20, 2, 0, code as u8]
}

/// MQTT 5 CONNACK with reason 0x84 (unsupported protocol version) and no properties: a 3.1.1 answer would look malformed.
pub(crate) const REFUSED_V5: [u8; 5] = [0x20, 3, 0, 0x84, 0];

impl Connect {
    /// Reads it. The version comes first: nothing behind it means anything in another one.
    ///
    /// The codec is not asked: it takes a password for a text, and what is behind the last field for nothing.
    pub(crate) fn parse(frame: &Frame) -> Result<Self, ConnectError> {
        let (flags, keepalive, payload) = match frame.body() {
            [0, 4, b'M', b'Q', b'T', b'T', 4, rest @ ..] => match rest {
                [flags, high, low, payload @ ..] => (*flags, [*high, *low], payload),
                _ => return Err(PacketError::Length.into()),
            },
            [0, 4, b'M', b'Q', b'T', b'T', level, ..]
            | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
                return Err(ConnectError::Version { level: *level });
            }
            _ => return Err(ConnectError::Foreign),
        };
        check(flags)?;
        let mut fields = Fields(payload);
        let client_id = fields.text()?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(will(fields.text()?, fields.bytes()?, flags)),
        };
        // Both are taken and not used: the certificate says who it is.
        if flags & USER_NAME != 0 {
            fields.text()?;
        }
        if flags & PASSWORD != 0 {
            fields.bytes()?;
        }
        if !fields.0.is_empty() {
            return Err(PacketError::Length.into());
        }
        let keepalive = u16::from_be_bytes(keepalive);
        Ok(Self {
            client_id: client_id.to_owned(),
            clean_session: flags & CLEAN_SESSION != 0,
            keepalive: (keepalive != 0).then(|| Duration::from_secs(keepalive.into())),
            will: will.transpose()?,
        })
    }
}

/// MQTT-3.1.2-3, -11, -13, -14, -15 and -22: flags that may not be set, or not together.
fn check(flags: u8) -> Result<(), PacketError> {
    let will_without_flag = flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0;
    let password_without_user = flags & USER_NAME == 0 && flags & PASSWORD != 0;
    let qos_three = flags & WILL_QOS == WILL_QOS;
    if flags & RESERVED != 0 || will_without_flag || password_without_user || qos_three {
        return Err(PacketError::Reserved);
    }
    Ok(())
}

fn will(topic: &str, payload: &[u8], flags: u8) -> Result<Message, ConnectError> {
    let topic = match TopicName::parse(topic) {
        Ok(topic) => topic,
        Err(error) if error.is_malformed() => return Err(PacketError::Topic(error).into()),
        Err(error) => return Err(ConnectError::WillTopic(error)),
    };
    let qos = match (flags & WILL_QOS) >> 3 {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => return Err(ConnectError::WillQos),
    };
    if payload.len() > protocol::limits::MAX_PAYLOAD {
        return Err(PacketError::Payload.into());
    }
    Ok(Message::new(topic, payload, qos, flags & WILL_RETAIN != 0))
}

/// The payload of a CONNECT, field by field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Bytes with their length.
    fn bytes(&mut self) -> Result<&'a [u8], PacketError> {
        let (length, rest) = self.0.split_first_chunk().ok_or(PacketError::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (field, rest) = rest.split_at_checked(length).ok_or(PacketError::Length)?;
        self.0 = rest;
        Ok(field)
    }

    /// MQTT-1.5.3-1 and -2.
    fn text(&mut self) -> Result<&'a str, PacketError> {
        let text = str::from_utf8(self.bytes()?).map_err(PacketError::Text)?;
        if text.contains('\0') {
            return Err(PacketError::Topic(TopicError::Nul));
        }
        Ok(text)
    }
}

/// Bits of the connect flags (MQTT 3.1.1, section 3.1.2.3).
const RESERVED: u8 = 0x01;
const CLEAN_SESSION: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::packet::frame;

    fn parse(body: &[u8]) -> Result<Connect, ConnectError> {
        let length = u8::try_from(body.len()).unwrap();
        let bytes = [&[0x10, length][..], body].concat();
        let mut inbound = BytesMut::from(&bytes[..]);
        Connect::parse(&frame(&mut inbound, is_connect).unwrap().unwrap())
    }

    #[test]
    fn good_ones_are_read() {
        let connect = parse(b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c").unwrap();
        assert_eq!(connect.client_id, "c");
        assert!(connect.clean_session && connect.will.is_none());
        assert_eq!(connect.keepalive, Some(Duration::from_secs(10)));
        let connect = parse(b"\x00\x04MQTT\x04\x2c\x00\x00\x00\x01c\x00\x01t\x00\x01w").unwrap();
        assert_eq!(connect.keepalive, None);
        let will = connect.will.unwrap();
        assert_eq!(
            (
                will.topic.as_str(),
                &will.payload[..],
                will.qos,
                will.retain
            ),
            ("t", &b"w"[..], Qos::AtLeastOnce, true)
        );
        // User names and passwords are taken and not used; they may be empty, and a password is no text.
        parse(b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x01c\x00\x01u\x00\x02\x00\xff").unwrap();
        parse(b"\x00\x04MQTT\x04\x82\x00\x0a\x00\x01c\x00\x00").unwrap();
    }

    #[test]
    fn other_versions_are_named() {
        for (body, expected) in [
            (
                &b"\x00\x04MQTT\x05\x02\x00\x0a\x05\x11\x00\x00\x00\x0a\x00\x01c"[..],
                5,
            ),
            (b"\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x01c", 3),
            (b"\x00\x04MQTT\x06", 6),
        ] {
            assert!(
                matches!(parse(body), Err(ConnectError::Version { level }) if level == expected)
            );
        }
    }

    #[test]
    fn each_violation_is_seen() {
        for (body, kind) in [
            (&b"\x00\x04MQTX\x04\x02\x00\x0a\x00\x01c"[..], "Foreign"),
            (b"\x00\x04MQTT\x04\x03\x00\x0a\x00\x01c", "Packet(Reserved"),
            (
                b"\x00\x04MQTT\x04\x42\x00\x0a\x00\x01c\x00\x01p",
                "Packet(Reserved",
            ),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01cX", "Packet(Length"),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x09c", "Packet(Length"),
            (b"\x00\x04MQTT\x04\x22\x00\x0a\x00\x01c", "Packet(Reserved"),
            (b"\x00\x04MQTT\x04\x0a\x00\x0a\x00\x01c", "Packet(Reserved"),
            (b"\x00\x04MQTT\x04\x06\x00\x0a\x00\x01c", "Packet(Length"),
            (b"\x00\x04MQTT\x04\x82\x00\x0a\x00\x01c", "Packet(Length"),
            (
                b"\x00\x04MQTT\x04\x1e\x00\x0a\x00\x01c\x00\x01t\x00\x01w",
                "Packet(Reserved",
            ),
            (
                b"\x00\x04MQTT\x04\x16\x00\x0a\x00\x01c\x00\x01t\x00\x01w",
                "WillQos",
            ),
            (
                b"\x00\x04MQTT\x04\x06\x00\x0a\x00\x01c\x00\x01#\x00\x01w",
                "Packet(Topic(Wildcard",
            ),
            (
                b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01\x00",
                "Packet(Topic(Nul",
            ),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01\xff", "Packet(Text"),
            (b"\x00\x04MQTT\x04\x02\x00", "Packet(Length"),
            (b"\x00\x04MQTT", "Foreign"),
        ] {
            let error = format!("{:?}", parse(body).unwrap_err());
            assert!(error.starts_with(kind), "{body:02x?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(flags in any::<u8>(), rest in vec(any::<u8>(), 0..100)) {
            let body = [&b"\x00\x04MQTT\x04"[..], &[flags], &rest].concat();
            let _: Result<_, _> = parse(&body);
        }
    }
}
