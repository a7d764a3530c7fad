//! Where our broker and mosquitto were seen to do different things, or both not what the standard says.

/// One case in which they differ.
pub(super) struct Difference {
    pub(super) case: &'static str,
    pub(super) ours: &'static str,
    pub(super) mosquitto: &'static str,
    pub(super) why: &'static str,
}

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "a will of QoS 2",
        ours: "CONNACK 5; closed",
        mosquitto: "CONNACK 0",
        why: "QoS 2 is not spoken, as with AWS IoT Core; a will that could never be published as asked is refused at once",
    },
    Difference {
        case: "MQTT 3.1",
        ours: "CONNACK 1; closed",
        mosquitto: "CONNACK 0",
        why: "the predecessor of 2010 is another specification, which nobody who comes here needs",
    },
    Difference {
        case: "MQTT 5",
        ours: "CONNACK of MQTT 5 0x84; closed",
        mosquitto: "CONNACK of MQTT 5 0x00",
        why: "not spoken. Refused in the words of MQTT 5, so that its clients say why, where a CONNACK of 3.1.1 would look broken to them",
    },
    Difference {
        case: "an empty client id",
        ours: "CONNACK 2; closed",
        mosquitto: "CONNACK 0",
        why: "a client id is that of the certificate",
    },
    Difference {
        case: "a client id of 23 letters and digits",
        ours: "CONNACK 2; closed",
        mosquitto: "CONNACK 0",
        why: "a client id is that of the certificate. mosquitto takes any, unless told `use_username_as_clientid`",
    },
    Difference {
        case: "QoS 2 is answered with its identifier",
        ours: "closed",
        mosquitto: "PUBREC; PUBCOMP",
        why: "QoS 2 is not spoken, as with AWS IoT Core",
    },
    Difference {
        case: "QoS 2 to a subscriber",
        ours: "its publisher is closed",
        mosquitto: "`x` on a QoS 2",
        why: "QoS 2 is not spoken, as with AWS IoT Core",
    },
    Difference {
        case: "PUBREL for nothing",
        ours: "closed",
        mosquitto: "PUBCOMP; PINGRESP",
        why: "belongs to QoS 2",
    },
    Difference {
        case: "what a subscription of QoS 2 is granted",
        ours: "SUBACK 1",
        mosquitto: "SUBACK 2",
        why: "QoS 2 is granted as 1, as with AWS IoT Core",
    },
    Difference {
        case: "a PUBLISH without permission",
        ours: "closed",
        mosquitto: "PUBACK",
        why: "mosquitto says yes and drops it. Who may not do what it tries should learn that; AWS IoT Core closes too",
    },
    Difference {
        case: "a payload of 100 KiB",
        ours: "closed",
        mosquitto: "PUBACK; 102400 bytes",
        why: "messages here are orders and states: at most 16 KiB",
    },
    Difference {
        case: "nine filters in one SUBSCRIBE",
        ours: "closed",
        mosquitto: "SUBACK 0 0 0 0 0 0 0 0 0",
        why: "at most 8, as with AWS IoT Core",
    },
    Difference {
        case: "the highest QoS of subscriptions that overlap counts",
        ours: "`x` on a QoS 1",
        mosquitto: "`x` on a QoS 0",
        why: "mosquitto 2.0.11 delivers by the lower one, against the standard",
    },
    Difference {
        case: "a topic of 1,000 bytes",
        ours: "SUBACK 128; closed",
        mosquitto: "SUBACK 0; PUBACK",
        why: "topics here are four names: at most 270 bytes",
    },
    Difference {
        case: "a topic of 10 levels",
        ours: "SUBACK 128; closed",
        mosquitto: "SUBACK 0; PUBACK",
        why: "at most 8 levels, as with AWS IoT Core",
    },
    Difference {
        case: "a topic of 65,535 bytes",
        ours: "closed; closed",
        mosquitto: "SUBACK 0; PUBACK",
        why: "more than the largest packet, 19 KiB",
    },
    Difference {
        case: "SUBACK from a client",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 lets pass what only a server may send",
    },
    Difference {
        case: "UNSUBACK from a client",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 lets pass what only a server may send",
    },
    Difference {
        case: "PINGRESP from a client",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 lets pass what only a server may send",
    },
    Difference {
        case: "flags of PUBACK",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 does not look at these reserved bits",
    },
    Difference {
        case: "flags of PINGREQ",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 does not look at these reserved bits",
    },
    Difference {
        case: "a PINGREQ with a body",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 does not look at its length",
    },
    Difference {
        case: "DUP with QoS 0",
        ours: "closed",
        mosquitto: "PINGRESP",
        why: "mosquitto 2.0.11 does not look at it",
    },
];
