//! From bytes to requests: framing, the codec, and the checks of MQTT 3.1.1 that the codec does not make.

use bytes::BytesMut;
use protocol::limits::MAX_PAYLOAD;
use rumqttc::mqttbytes::v4::{self, Packet};
use rumqttc::mqttbytes::{self, QoS};

use crate::limits::{MAX_FILTERS, MAX_PACKET};
use crate::message::{Message, Qos};
use crate::topic::{TopicError, TopicFilter, TopicName};

/// What a connected client may send.
#[derive(Debug)]
pub(crate) enum Request {
    /// A message, with its packet identifier for `QoS` 1.
    Publish(Message, Option<u16>),
    PubAck(u16),
    /// Filters, as they were written where they are beyond our limits, and the granted `QoS`.
    Subscribe(u16, Vec<(Result<TopicFilter, String>, Qos)>),
    Unsubscribe(u16, Vec<TopicFilter>),
    Ping,
    Disconnect,
}

/// A packet that ends the connection (MQTT-4.8.0-1).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PacketError {
    #[error("the fixed header {byte:#04x} is none that a client may send here")]
    Header { byte: u8 },
    #[error("the packet cannot be parsed")]
    Codec(#[source] mqttbytes::Error),
    #[error("a text is no UTF-8")]
    Text(#[source] std::str::Utf8Error),
    #[error("a flag is set that may not be, or not with the others")]
    Reserved,
    #[error("the packet identifier is 0")]
    Identifier,
    #[error("the packet is longer or shorter than its fields")]
    Length,
    #[error("the topic or filter is invalid")]
    Topic(#[source] TopicError),
    #[error("DUP is set for a message that is sent at most once")]
    Dup,
    #[error("`QoS` 2 is not spoken")]
    Qos2,
    #[error("{count} filters are in one packet, not 1 to {MAX_FILTERS}")]
    Filters { count: usize },
    #[error("the payload is larger than {MAX_PAYLOAD} bytes")]
    Payload,
}

/// A whole packet, not yet parsed.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: BytesMut,
    body: usize,
}

/// Takes the first packet out of what has been received, if it is all there. The first byte and the length are judged
/// before the rest arrives.
pub(crate) fn frame(
    inbound: &mut BytesMut,
    is_known: fn(u8) -> bool,
) -> Result<Option<Frame>, PacketError> {
    match inbound.first() {
        None => return Ok(None),
        Some(&byte) if !is_known(byte) => return Err(PacketError::Header { byte }),
        Some(_) => {}
    }
    let length = match mqttbytes::check(inbound.iter(), MAX_PACKET) {
        Ok(header) => header.frame_length(),
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(PacketError::Codec(error)),
    };
    // The length field ends at its first byte below 0x80.
    let body = 2 + inbound
        .iter()
        .skip(1)
        .take_while(|byte| **byte >= 0x80)
        .count();
    Ok(Some(Frame {
        bytes: inbound.split_to(length),
        body,
    }))
}

/// Whether a packet after CONNECT may begin with this byte (MQTT-2.2.2-2); the second CONNECT (MQTT-3.1.0-2), what only a
/// server sends, and what only `QoS` 2 needs may not.
pub(crate) fn is_request(byte: u8) -> bool {
    matches!(byte, 0x30..=0x3f | 0x40 | 0x82 | 0xa2 | 0xc0 | 0xe0)
}

impl Frame {
    /// What follows the fixed header.
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }

    fn first(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    /// The codec's reading of it.
    fn decode(mut self) -> Result<Packet, PacketError> {
        Packet::read(&mut self.bytes, MAX_PACKET).map_err(PacketError::Codec)
    }

    /// The request it is.
    pub(crate) fn request(self) -> Result<Request, PacketError> {
        let (first, length) = (self.first(), self.body().len());
        // The codec takes more of these than their two bytes, or none.
        match first {
            0x40 if length != 2 => return Err(PacketError::Length),
            0xc0 | 0xe0 if length != 0 => return Err(PacketError::Length),
            0x82 | 0xa2 if length < 2 => return Err(PacketError::Length),
            _ => {}
        }
        let body = self.bytes.clone().split_off(self.body);
        match self.decode()? {
            Packet::Publish(publish) => publish_request(&publish),
            Packet::PubAck(ack) => Ok(Request::PubAck(identifier(ack.pkid)?)),
            Packet::Subscribe(subscribe) => subscribe_request(subscribe, &body),
            Packet::Unsubscribe(unsubscribe) => unsubscribe_request(&unsubscribe),
            Packet::PingReq => Ok(Request::Ping),
            Packet::Disconnect => Ok(Request::Disconnect),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => Err(PacketError::Header { byte: first }),
        }
    }
}

fn publish_request(publish: &v4::Publish) -> Result<Request, PacketError> {
    let (qos, pkid) = match publish.qos {
        // MQTT-3.3.1-2
        QoS::AtMostOnce if publish.dup => return Err(PacketError::Dup),
        QoS::AtMostOnce => (Qos::AtMostOnce, None),
        QoS::AtLeastOnce => (Qos::AtLeastOnce, Some(identifier(publish.pkid)?)),
        QoS::ExactlyOnce => return Err(PacketError::Qos2),
    };
    if publish.payload.len() > MAX_PAYLOAD {
        return Err(PacketError::Payload);
    }
    let topic = TopicName::parse(&publish.topic).map_err(PacketError::Topic)?;
    Ok(Request::Publish(
        Message::new(topic, &publish.payload, qos, publish.retain),
        pkid,
    ))
}

fn subscribe_request(subscribe: v4::Subscribe, body: &[u8]) -> Result<Request, PacketError> {
    let pkid = identifier(subscribe.pkid)?;
    let count = subscribe.filters.len();
    if count > MAX_FILTERS {
        return Err(PacketError::Filters { count });
    }
    let mut filters = Vec::with_capacity(count);
    let mut offset = 2;
    for filter in subscribe.filters {
        offset += 2 + filter.path.len();
        // MQTT-3-8.3-4; the codec ignores the upper six bits.
        if body.get(offset).is_none_or(|options| *options > 2) {
            return Err(PacketError::Reserved);
        }
        offset += 1;
        // `QoS` 2 is granted as 1, as AWS IoT Core does.
        let qos = match filter.qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Qos::AtLeastOnce,
        };
        let parsed = match TopicFilter::parse(&filter.path) {
            Ok(filter) => Ok(filter),
            Err(error) if error.is_malformed() => return Err(PacketError::Topic(error)),
            Err(_) => Err(filter.path),
        };
        filters.push((parsed, qos));
    }
    Ok(Request::Subscribe(pkid, filters))
}

fn unsubscribe_request(unsubscribe: &v4::Unsubscribe) -> Result<Request, PacketError> {
    let pkid = identifier(unsubscribe.pkid)?;
    let count = unsubscribe.topics.len();
    // MQTT-3.10.3-2
    if count == 0 || count > MAX_FILTERS {
        return Err(PacketError::Filters { count });
    }
    let mut filters = Vec::with_capacity(count);
    for path in &unsubscribe.topics {
        match TopicFilter::parse(path) {
            Ok(filter) => filters.push(filter),
            Err(error) if error.is_malformed() => return Err(PacketError::Topic(error)),
            // Nobody can be subscribed to it, which is no error (MQTT-3.10.4-5).
            Err(_) => {}
        }
    }
    Ok(Request::Unsubscribe(pkid, filters))
}

/// MQTT-2.3.1-1
fn identifier(pkid: u16) -> Result<u16, PacketError> {
    if pkid == 0 {
        Err(PacketError::Identifier)
    } else {
        Ok(pkid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn request(bytes: &[u8]) -> Result<Request, PacketError> {
        frame(&mut BytesMut::from(bytes), is_request)?
            .expect("a whole packet")
            .request()
    }

    #[test]
    fn good_packets_are_requests() {
        assert!(
            matches!(request(b"\x30\x04\x00\x01ax"), Ok(Request::Publish(message, None)) if message.payload == "x")
        );
        assert!(
            matches!(request(b"\x3b\x05\x00\x01a\x00\x07"), Ok(Request::Publish(message, Some(7))) if message.retain)
        );
        assert!(matches!(
            request(b"\x40\x02\x00\x07"),
            Ok(Request::PubAck(7))
        ));
        let subscribe = request(b"\x82\x0a\x00\x01\x00\x01a\x02\x00\x01+\x00").unwrap();
        let Request::Subscribe(1, filters) = subscribe else {
            panic!("{subscribe:?}")
        };
        assert_eq!(
            filters.iter().map(|(_, qos)| *qos).collect::<Vec<_>>(),
            [Qos::AtLeastOnce, Qos::AtMostOnce]
        );
        assert!(
            matches!(request(b"\xa2\x05\x00\x01\x00\x01a"), Ok(Request::Unsubscribe(1, filters)) if filters.len() == 1)
        );
        assert!(matches!(request(b"\xc0\x00"), Ok(Request::Ping)));
        assert!(matches!(request(b"\xe0\x00"), Ok(Request::Disconnect)));
        assert!(matches!(
            request("\x30\x06\x00\x04é/x".as_bytes()),
            Ok(Request::Publish(..))
        ));
    }

    #[test]
    fn each_violation_is_seen() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x10\x00", "Header"),                          // a second CONNECT
            (b"\x20\x02\x00\x00", "Header"),                  // CONNACK
            (b"\xb0\x02\x00\x01", "Header"),                  // UNSUBACK
            (b"\x62\x02\x00\x01", "Header"),                  // PUBREL
            (b"\x80\x06\x00\x01\x00\x01a\x00", "Header"),     // flags of SUBSCRIBE
            (b"\xc1\x00", "Header"),                          // flags of PINGREQ
            (b"\xf0\x00", "Header"),                          // AUTH of MQTT 5
            (b"\x38\x03\x00\x01a", "Dup"),                    // DUP with QoS 0
            (b"\x34\x05\x00\x01a\x00\x01", "Qos2"),           //
            (b"\x36\x05\x00\x01a\x00\x01", "Codec"),          // QoS 3
            (b"\x32\x05\x00\x01a\x00\x00", ""),               // identifier 0: by the codec or by us
            (b"\x30\x03\x00\x01#", "Topic"),                  //
            (b"\x30\x02\x00\x00", "Topic"),                   // empty topic
            (b"\x30\x03\x00\x01\x00", "Topic"),               // U+0000
            (b"\x30\x03\x00\x01\xff", "Codec"),               // no UTF-8
            (b"\x30\x03\x00\x09a", "Codec"),                  // a topic longer than its packet
            (b"\x82\x02\x00\x01", "Codec"),                   // SUBSCRIBE without filters
            (b"\x82\x06\x00\x01\x00\x01a\x04", "Reserved"),   //
            (b"\x82\x06\x00\x01\x00\x01a\x03", ""),           // QoS 3
            (b"\x82\x06\x00\x00\x00\x01a\x00", "Identifier"), //
            (b"\x82\x08\x00\x01\x00\x03a/#x\x00", ""),        //
            (b"\xa2\x02\x00\x01", "Filters"),                 // UNSUBSCRIBE without filters
            (b"\xa2\x05\x00\x00\x00\x01a", "Identifier"),     //
            (b"\x40\x03\x00\x01\x00", "Length"),              //
            (b"\xc0\x01\x00", "Length"),                      //
            (b"\xe0\x01\x00", "Length"),                      //
            (b"\x82\x01\x00", "Length"),                      //
        ];
        for (bytes, kind) in cases {
            let error = format!("{:?}", request(bytes).unwrap_err());
            assert!(error.starts_with(kind), "{bytes:02x?}: {error}");
        }
        let many = [b"\x82\x26\x00\x01".to_vec(), b"\x00\x01a\x00".repeat(9)].concat();
        assert!(matches!(
            request(&many),
            Err(PacketError::Filters { count: 9 })
        ));
    }

    #[test]
    fn a_packet_is_judged_by_its_length_before_it_has_come() {
        let mut inbound = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);
        assert!(matches!(
            frame(&mut inbound, is_request),
            Err(PacketError::Codec(_))
        ));
        let mut inbound = BytesMut::from(&b"\x30\xff\xff\xff\xff\x7f"[..]);
        assert!(matches!(
            frame(&mut inbound, is_request),
            Err(PacketError::Codec(_))
        ));
        let mut inbound = BytesMut::from(&b"\x30\x0a\x00"[..]);
        assert!(frame(&mut inbound, is_request).unwrap().is_none());
        assert_eq!(inbound.len(), 3);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64)) {
            let mut inbound = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = frame(&mut inbound, |_| true) {
                let _: Result<_, _> = frame.request();
            }
        }

        /// Bodies of the packets that clients send, with the length right, reach further than noise does.
        #[test]
        fn arbitrary_bodies_never_panic(
            first in prop::sample::select(vec![0x30u8, 0x32, 0x34, 0x3d, 0x40, 0x82, 0xa2, 0xc0, 0xe0]), body in vec(any::<u8>(), 0..100),
        ) {
            let bytes = [&[first, u8::try_from(body.len()).unwrap()][..], &body].concat();
            if let Ok(Some(frame)) = frame(&mut BytesMut::from(&bytes[..]), is_request) {
                let _: Result<_, _> = frame.request();
            }
        }
    }
}
