//! Packets of MQTT 3.1.1 as bytes, also such as no library would send. Written from the standard, and not with the codec
//! of the broker under test.

/// A CONNECT; only what a test is about differs from [`Connect::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) id: &'a str,
    pub(crate) clean: bool,
    pub(crate) keepalive: u16,
    pub(crate) will: Option<Will<'a>>,
    pub(crate) login: Option<(&'a str, &'a [u8])>,
    pub(crate) level: u8,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl<'a> Connect<'a> {
    /// A clean session, no will, a keepalive longer than any test.
    pub(crate) fn new(id: &'a str) -> Self {
        Self {
            id,
            clean: true,
            keepalive: 600,
            will: None,
            login: None,
            level: 4,
        }
    }

    /// The same, of a session that is to be kept.
    pub(crate) fn kept(id: &'a str) -> Self {
        Self {
            clean: false,
            ..Self::new(id)
        }
    }

    /// The same with a will.
    pub(crate) fn with_will(self, topic: &'a str, payload: &'a str, qos: u8, retain: bool) -> Self {
        let will = Will {
            topic,
            payload,
            qos,
            retain,
        };
        Self {
            will: Some(will),
            ..self
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut fields = text(self.id);
        if let Some(will) = self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
            fields.extend(text(will.topic));
            fields.extend(text(will.payload));
        }
        if let Some((user, password)) = self.login {
            flags |= 0xc0;
            fields.extend(text(user));
            fields.extend(field(password));
        }
        connect_of(self.level, flags, self.keepalive, &fields)
    }
}

/// A CONNECT with these flags and these fields, whether they fit each other or not.
pub(crate) fn connect_of(level: u8, flags: u8, keepalive: u16, fields: &[u8]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([level, flags]);
    body.extend(keepalive.to_be_bytes());
    body.extend(fields);
    packet(0x10, &body)
}

/// A PUBLISH; the identifier is there exactly when `QoS` is not 0.
pub(crate) fn publish(topic: &str, payload: &str, qos: u8, retain: bool, id: u16) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload.as_bytes());
    packet(0x30 | qos << 1 | u8::from(retain), &body)
}

pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(text(filter));
    }
    packet(0xa2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
pub(crate) fn acknowledgement(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// Any packet: first byte, length, body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A text with its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    field(text.as_bytes())
}

/// Bytes with their length.
pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

pub(crate) const PINGREQ: &[u8] = b"\xc0\x00";
pub(crate) const DISCONNECT: &[u8] = b"\xe0\x00";
