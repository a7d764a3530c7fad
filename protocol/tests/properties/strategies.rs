//! Values of every type of the protocol, and things that are nearly such.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::limits::{
    MAX_ADDRESS, MAX_CONTROLLERS, MAX_HOST_KEY, MAX_HOST_KEYS, MAX_LIFETIME, MAX_SERVICES,
    MAX_TEXT, MAX_VERSION,
};
use protocol::{
    ClientIdSuffix, DeviceId, Epoch, Forward, Label, LeaseId, Lifetime, Order, PlainState,
    Presence, RefusalCode, Reply, ReplyBody, Topic,
};
use serde_json::{Value, json};

pub(crate) fn label() -> impl Strategy<Value = Label> {
    "(controller)?[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn device_id() -> impl Strategy<Value = DeviceId> {
    (label(), label(), label())
        .prop_map(|(device, system, realm)| DeviceId::new(device, system, realm).unwrap())
}

pub(crate) fn suffix() -> impl Strategy<Value = ClientIdSuffix> {
    vec(label(), 0..4).prop_map(|names| {
        let text: Vec<String> = names.iter().map(|name| format!(".{name}")).collect();
        text.concat().parse().unwrap_or_default()
    })
}

pub(crate) fn lease() -> impl Strategy<Value = LeaseId> {
    any::<[u8; 16]>().prop_map(LeaseId::from_bytes)
}

pub(crate) fn topic() -> impl Strategy<Value = Topic> {
    (device_id(), label(), 0..5).prop_map(|(id, other, form)| match form {
        0 => Topic::Order {
            device: id,
            controller: other,
        },
        1 => Topic::Reply {
            controller: id,
            device: other,
        },
        2 => Topic::Presence(id),
        3 => Topic::PlainControl(id),
        _ => Topic::PlainState(id),
    })
}

pub(crate) fn order() -> impl Strategy<Value = Order> {
    let open = (
        lease(),
        vec(label(), 1..=MAX_SERVICES),
        any::<u64>(),
        1..=MAX_LIFETIME,
    );
    prop_oneof![
        3 => open.prop_map(|(lease, services, issued, lifetime)| Order::Open {
            lease,
            services,
            issued,
            lifetime: Lifetime::from_secs(lifetime).unwrap(),
        }),
        1 => option::of(lease()).prop_map(|lease| Order::Close { lease }),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let forward = (label(), 1..=u16::MAX).prop_map(|(service, port)| Forward { service, port });
    let opened = (
        line(MAX_ADDRESS),
        vec(forward, 0..=MAX_SERVICES),
        vec(line(MAX_HOST_KEY), 0..=MAX_HOST_KEYS),
    );
    let code = prop::sample::select(vec![
        RefusalCode::Unsupported,
        RefusalCode::Stale,
        RefusalCode::UnknownService,
        RefusalCode::Busy,
        RefusalCode::ProxyUnavailable,
        RefusalCode::ShuttingDown,
        RefusalCode::Other,
    ]);
    let body = prop_oneof![
        opened.prop_map(|(proxy, forwards, host_keys)| ReplyBody::Opened {
            proxy,
            forwards,
            host_keys
        }),
        (code, line(MAX_TEXT)).prop_map(|(code, text)| ReplyBody::Refused { code, text }),
        Just(ReplyBody::Closed),
    ];
    (option::of(lease()), body).prop_map(|(lease, body)| Reply { lease, body })
}

pub(crate) fn presence() -> impl Strategy<Value = Presence> {
    (
        any::<bool>(),
        any::<u64>(),
        any::<bool>(),
        line(MAX_VERSION),
        any::<u64>(),
        option::of(line(MAX_ADDRESS)),
        vec(label(), 0..=MAX_CONTROLLERS),
    )
        .prop_map(
            |(online, since, lost, version, epoch, proxy, controllers)| Presence {
                online,
                since,
                lost,
                version,
                epoch: Epoch(epoch),
                proxy,
                controllers,
            },
        )
}

pub(crate) fn plain_state() -> impl Strategy<Value = PlainState> {
    prop_oneof![
        option::of(1..=u16::MAX).prop_map(|port| PlainState::Connected { port }),
        Just(PlainState::Disconnected),
    ]
}

/// A text without control characters of at most `max` bytes, often of just that many.
fn line(max: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "\\PC{0,40}".prop_map(move |text| shortened(text, max)),
        1 => Just("x".repeat(max)),
    ]
}

fn shortened(mut text: String, max: usize) -> String {
    while text.len() > max {
        text.pop();
    }
    text
}

/// Texts near to what the parsers of names, topics and plain words know.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let near = prop::sample::select(vec![
        "a",
        "333",
        "hula",
        "atlas",
        "controller",
        "-",
        ".",
        "/",
        "tunnel",
        "control",
        "reply",
        "presence",
        "state",
        "+",
        "#",
        "$",
        "connected",
        "disconnected",
        "connect",
        "|",
        "port=",
        "61333",
        "99999",
        " ",
        "\n",
        "\0",
        "é",
        "000102030405060708090a0b0c0d0e0f",
    ]);
    prop_oneof![
        any::<String>(),
        vec(near, 0..14).prop_map(|parts| parts.concat()),
    ]
}

pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        order().prop_map(|order| order.encode()),
        reply().prop_map(|reply| reply.encode()),
        presence().prop_map(|presence| presence.encode()),
    ]
}

pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        member().prop_map(Value::from),
        (0..3_u32).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((member(), inner), 0..6).prop_map(|members| {
                let mut object: serde_json::Map<String, Value> = members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect();
                object.entry("v").or_insert(json!(1));
                Value::from(object)
            }),
        ]
    })
}

/// Member names and words of the protocol.
fn member() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "v",
        "order",
        "reply",
        "lease",
        "services",
        "issued",
        "lifetime",
        "proxy",
        "forwards",
        "service",
        "port",
        "host_keys",
        "code",
        "text",
        "online",
        "since",
        "lost",
        "version",
        "epoch",
        "open",
        "close",
        "opened",
        "refused",
        "closed",
        "busy",
    ])
}

/// A change to one member of a message.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Put(&'static str, Value),
    Remove(prop::sample::Index),
    Replace(prop::sample::Index, Value),
    Wrap(prop::sample::Index),
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (member(), json()).prop_map(|(key, value)| Mutation::Put(key, value)),
        any::<prop::sample::Index>().prop_map(Mutation::Remove),
        (any::<prop::sample::Index>(), json()).prop_map(|(at, value)| Mutation::Replace(at, value)),
        any::<prop::sample::Index>().prop_map(Mutation::Wrap),
    ]
}

impl Mutation {
    pub(crate) fn apply(&self, message: &mut Value) {
        let Some(object) = message.as_object_mut() else {
            return;
        };
        let key_at = |at: &prop::sample::Index, object: &serde_json::Map<String, Value>| {
            (!object.is_empty()).then(|| object.keys().nth(at.index(object.len())).unwrap().clone())
        };
        match self {
            Self::Put(key, value) => {
                object.insert((*key).to_owned(), value.clone());
            }
            Self::Remove(at) => {
                if let Some(key) = key_at(at, object) {
                    object.remove(&key);
                }
            }
            Self::Replace(at, value) => {
                if let Some(key) = key_at(at, object) {
                    object.insert(key, value.clone());
                }
            }
            Self::Wrap(at) => {
                if let Some(key) = key_at(at, object) {
                    let value = object.remove(&key).unwrap_or_default();
                    object.insert(key, json!([value]));
                }
            }
        }
    }
}
