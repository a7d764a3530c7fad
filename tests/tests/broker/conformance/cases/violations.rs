//! Packets that end a connection (section 4.8), each after a good CONNECT.

use super::super::case::{Case, Deed};

pub(in super::super) const CASES: &[Case] = &[
    violation(
        "a second CONNECT",
        &["3.1.0-2"],
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c",
    ),
    violation("CONNACK from a client", &["4.8.0-1"], b"\x20\x02\x00\x00"),
    violation(
        "SUBACK from a client",
        &["4.8.0-1"],
        b"\x90\x03\x00\x01\x00",
    ),
    violation("UNSUBACK from a client", &["4.8.0-1"], b"\xb0\x02\x00\x01"),
    violation("PINGRESP from a client", &["4.8.0-1"], b"\xd0\x00"),
    violation("packet type 0", &["4.8.0-1"], b"\x00\x00"),
    violation("packet type 15", &["4.8.0-1"], b"\xf0\x00"),
    violation(
        "a length of five bytes",
        &["4.8.0-1"],
        b"\x30\xff\xff\xff\xff\x01",
    ),
    violation(
        "flags of PUBACK",
        &["2.2.2-1", "2.2.2-2"],
        b"\x41\x02\x00\x01",
    ),
    violation(
        "flags of PUBREL",
        &["3.6.1-1", "2.2.2-2"],
        b"\x60\x02\x00\x01",
    ),
    violation(
        "flags of SUBSCRIBE",
        &["3.8.1-1", "2.2.2-2"],
        b"\x80\x06\x00\x01\x00\x01a\x00",
    ),
    violation(
        "flags of UNSUBSCRIBE",
        &["3.10.1-1", "2.2.2-2"],
        b"\xa0\x05\x00\x01\x00\x01a",
    ),
    violation("flags of PINGREQ", &["2.2.2-1", "2.2.2-2"], b"\xc1\x00"),
    violation("flags of DISCONNECT", &["3.14.1-1", "2.2.2-2"], b"\xe1\x00"),
    violation("a PINGREQ with a body", &["4.8.0-1"], b"\xc0\x01\x00"),
    violation(
        "PUBLISH of QoS 3",
        &["3.3.1-4"],
        b"\x36\x05\x00\x01a\x00\x01",
    ),
    violation("DUP with QoS 0", &["3.3.1-2"], b"\x38\x03\x00\x01a"),
    violation(
        "PUBLISH with identifier 0",
        &["2.3.1-1"],
        b"\x32\x05\x00\x01a\x00\x00",
    ),
    violation(
        "PUBLISH without its identifier",
        &["2.3.1-1"],
        b"\x32\x03\x00\x01a",
    ),
    violation("PUBLISH without a topic", &["3.3.2-1"], b"\x30\x00"),
    violation(
        "a topic longer than its packet",
        &["3.3.2-1"],
        b"\x30\x03\x00\x09a",
    ),
    violation(
        "a topic with `+`",
        &["3.3.2-2", "4.7.1-1"],
        b"\x30\x05\x00\x03a/+",
    ),
    violation(
        "a topic with `#`",
        &["3.3.2-2", "4.7.1-1"],
        b"\x30\x05\x00\x03a/#",
    ),
    violation("an empty topic", &["4.7.3-1"], b"\x30\x02\x00\x00"),
    violation(
        "a topic with U+0000",
        &["1.5.3-2", "4.7.3-2"],
        b"\x30\x05\x00\x03a\0b",
    ),
    violation(
        "a topic that is no UTF-8",
        &["1.5.3-1", "3.3.2-1"],
        b"\x30\x04\x00\x02\xc3\x28",
    ),
    violation(
        "a topic with U+D800",
        &["1.5.3-1"],
        b"\x30\x05\x00\x03\xed\xa0\x80",
    ),
    violation(
        "a topic with a byte too many for `/`",
        &["1.5.3-1"],
        b"\x30\x04\x00\x02\xc0\xaf",
    ),
    violation(
        "SUBSCRIBE with identifier 0",
        &["2.3.1-1"],
        b"\x82\x06\x00\x00\x00\x01a\x00",
    ),
    violation(
        "SUBSCRIBE without filters",
        &["3.8.3-3"],
        b"\x82\x02\x00\x01",
    ),
    violation(
        "SUBSCRIBE without a QoS",
        &["3.8.3-3"],
        b"\x82\x05\x00\x01\x00\x01a",
    ),
    violation(
        "SUBSCRIBE with QoS 3",
        &["3-8.3-4"],
        b"\x82\x06\x00\x01\x00\x01a\x03",
    ),
    violation(
        "reserved bits beside the QoS",
        &["3-8.3-4"],
        b"\x82\x06\x00\x01\x00\x01a\x04",
    ),
    violation(
        "an empty filter",
        &["4.7.3-1"],
        b"\x82\x05\x00\x01\x00\x00\x00",
    ),
    violation(
        "a filter with U+0000",
        &["1.5.3-2", "4.7.3-2"],
        b"\x82\x08\x00\x01\x00\x03a\0b\x00",
    ),
    violation(
        "a filter that is no UTF-8",
        &["1.5.3-1", "3.8.3-1"],
        b"\x82\x07\x00\x01\x00\x02\xc3\x28\x00",
    ),
    violation(
        "`#` before the last level",
        &["4.7.1-2"],
        b"\x82\x0a\x00\x01\x00\x05a/#/b\x00",
    ),
    violation(
        "`#` in a part of a level",
        &["4.7.1-2"],
        b"\x82\x07\x00\x01\x00\x02a#\x00",
    ),
    violation(
        "`+` in a part of a level",
        &["4.7.1-3"],
        b"\x82\x07\x00\x01\x00\x02a+\x00",
    ),
    violation(
        "UNSUBSCRIBE with identifier 0",
        &["2.3.1-1"],
        b"\xa2\x05\x00\x00\x00\x01a",
    ),
    violation(
        "UNSUBSCRIBE without filters",
        &["3.10.3-2"],
        b"\xa2\x02\x00\x01",
    ),
    violation(
        "an UNSUBSCRIBE that is no UTF-8",
        &["1.5.3-1", "3.10.3-1"],
        b"\xa2\x06\x00\x01\x00\x02\xc3\x28",
    ),
];

const fn violation(
    name: &'static str,
    covers: &'static [&'static str],
    bytes: &'static [u8],
) -> Case {
    Case {
        name,
        covers,
        standard: &["closed"],
        deed: Deed::After(bytes),
    }
}
