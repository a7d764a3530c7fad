//! The CONNECT packet, and what is answered to one that is refused.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{self, Packet};

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
    pub(crate) fn parse(frame: Frame) -> Result<Self, ConnectError> {
        let body = frame.body();
        let (flags, length) = match body {
            [0, 4, b'M', b'Q', b'T', b'T', 4, flags, ..] => (*flags, body.len()),
            [0, 4, b'M', b'Q', b'T', b'T', level, ..]
            | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
                return Err(ConnectError::Version { level: *level });
            }
            _ => return Err(PacketError::Reserved.into()),
        };
        // MQTT-3.1.2-3 and MQTT-3.1.2-22
        if flags & RESERVED != 0 || (flags & PASSWORD != 0 && flags & USER_NAME == 0) {
            return Err(PacketError::Reserved.into());
        }
        let Packet::Connect(connect) = frame.decode()? else {
            return Err(PacketError::Header { byte: 0x10 }.into());
        };
        if length != length_of(&connect, flags) {
            return Err(PacketError::Length.into());
        }
        let login = connect.login.as_ref();
        if connect.client_id.contains('\0')
            || login.is_some_and(|login| login.username.contains('\0'))
        {
            return Err(PacketError::Topic(TopicError::Nul).into());
        }
        Ok(Self {
            client_id: connect.client_id,
            clean_session: connect.clean_session,
            keepalive: (connect.keep_alive != 0)
                .then(|| Duration::from_secs(connect.keep_alive.into())),
            will: connect.last_will.as_ref().map(will).transpose()?,
        })
    }
}

fn will(will: &v4::LastWill) -> Result<Message, ConnectError> {
    let topic = match TopicName::parse(&will.topic) {
        Ok(topic) => topic,
        Err(error) if error.is_malformed() => return Err(PacketError::Topic(error).into()),
        Err(error) => return Err(ConnectError::WillTopic(error)),
    };
    let qos = match will.qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => return Err(ConnectError::WillQos),
    };
    if will.message.len() > protocol::limits::MAX_PAYLOAD {
        return Err(PacketError::Payload.into());
    }
    Ok(Message::new(topic, &will.message, qos, will.retain))
}

/// How long the packet is if it has these fields and nothing else.
fn length_of(connect: &v4::Connect, flags: u8) -> usize {
    let field = |is_there: bool, length: usize| if is_there { 2 + length } else { 0 };
    let (user_name, password) = connect
        .login
        .as_ref()
        .map_or((0, 0), |login| (login.username.len(), login.password.len()));
    let will = connect
        .last_will
        .as_ref()
        .map_or(0, |will| 4 + will.topic.len() + will.message.len());
    10 + field(true, connect.client_id.len())
        + will
        + field(flags & USER_NAME != 0, user_name)
        + field(flags & PASSWORD != 0, password)
}

/// Bits of the connect flags (MQTT 3.1.1, section 3.1.2.3).
const RESERVED: u8 = 0x01;
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
        Connect::parse(
            frame(&mut BytesMut::from(&bytes[..]), is_connect)
                .unwrap()
                .unwrap(),
        )
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
        // User names and passwords are taken and not used; they may be empty.
        parse(b"\x00\x04MQTT\x04\xc2\x00\x0a\x00\x01c\x00\x01u\x00\x01p").unwrap();
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
            (
                &b"\x00\x04MQTX\x04\x02\x00\x0a\x00\x01c"[..],
                "Packet(Reserved",
            ),
            (b"\x00\x04MQTT\x04\x03\x00\x0a\x00\x01c", "Packet(Reserved"),
            (
                b"\x00\x04MQTT\x04\x42\x00\x0a\x00\x01c\x00\x01p",
                "Packet(Reserved",
            ),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01cX", "Packet(Length"),
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x09c", "Packet(Codec"),
            (b"\x00\x04MQTT\x04\x22\x00\x0a\x00\x01c", "Packet(Codec"),
            (
                b"\x00\x04MQTT\x04\x1e\x00\x0a\x00\x01c\x00\x01t\x00\x01w",
                "Packet(Codec",
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
            (b"\x00\x04MQTT\x04\x02\x00\x0a\x00\x01\xff", "Packet(Codec"),
            (b"\x00\x04MQTT\x04\x02\x00", "Packet(Codec"),
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
