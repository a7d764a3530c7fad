//! The vectors of `docs/protocol.md`, run: the page is normative, so what it shows must be so.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::{
    ClientIdSuffix, DecodeError, DeviceId, Epoch, Forward, Label, LeaseId, Lifetime, NameError,
    Order, PlainOrder, PlainState, Presence, RefusalCode, Reply, ReplyBody, Role, Topic,
    TopicError, filter, limits,
};
use serde_json::Value;

#[test]
fn orders() {
    let ssh: Label = "ssh".parse().unwrap();
    let web: Label = "web".parse().unwrap();
    let first = lease("000102030405060708090a0b0c0d0e0f");
    let open = Order::Open {
        lease: first,
        services: vec![ssh.clone()],
        issued: 1_795_305_600,
        lifetime: Lifetime::from_secs(60).unwrap(),
    };
    let two = Order::Open {
        lease: lease("ffffffffffffffffffffffffffffffff"),
        services: vec![ssh, web],
        issued: 0,
        lifetime: Lifetime::from_secs(3600).unwrap(),
    };
    let named = BTreeMap::from([
        ("open", open),
        ("open-two", two),
        ("close", Order::Close { lease: Some(first) }),
        ("close-all", Order::Close { lease: None }),
    ]);
    run_messages(
        "order",
        &named,
        &[],
        [4, 3, 23],
        Order::decode,
        Order::encode,
    );
}

#[test]
fn replies() {
    let first = Some(lease("000102030405060708090a0b0c0d0e0f"));
    let reply = |lease, body| Reply { lease, body };
    let refused = |code, text: &str| ReplyBody::Refused {
        code,
        text: text.to_owned(),
    };
    let opened = |proxy: &str, forwards: &[(&str, u16)], host_keys: &[&str]| ReplyBody::Opened {
        proxy: proxy.to_owned(),
        forwards: forwards
            .iter()
            .map(|&(service, port)| Forward {
                service: service.parse().unwrap(),
                port,
            })
            .collect(),
        host_keys: host_keys.iter().map(|&key| key.to_owned()).collect(),
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ";
    let stale = "the order was issued 2 hours ago by this computer's clock: set one of the clocks";
    let named = BTreeMap::from([
        (
            "opened",
            reply(
                first,
                opened("proxy.example.org:2222", &[("ssh", 61333)], &[key]),
            ),
        ),
        (
            "opened-two",
            reply(
                first,
                opened("[2001:db8::1]:22", &[("ssh", 1), ("web", 65535)], &[]),
            ),
        ),
        ("refused", reply(first, refused(RefusalCode::Stale, stale))),
        (
            "unsupported",
            reply(
                None,
                refused(RefusalCode::Unsupported, "only version 1 is spoken here"),
            ),
        ),
        ("closed", reply(first, ReplyBody::Closed)),
        ("closed-all", reply(None, ReplyBody::Closed)),
    ]);
    let read_only = [(
        "refused-other",
        reply(None, refused(RefusalCode::Other, "call somebody")),
    )];
    run_messages(
        "reply",
        &named,
        &read_only,
        [6, 3, 14],
        Reply::decode,
        Reply::encode,
    );
}

#[test]
fn presences() {
    let presence = |online, since, lost| Presence {
        online,
        since,
        lost,
        version: "0.1.0".to_owned(),
        epoch: Epoch(1_795_305_600_123),
    };
    let named = BTreeMap::from([
        ("online", presence(true, 1_795_305_600, false)),
        ("ended", presence(false, 1_795_305_660, false)),
        ("will", presence(false, 1_795_305_600, true)),
    ]);
    run_messages(
        "presence",
        &named,
        &[],
        [3, 1, 7],
        Presence::decode,
        Presence::encode,
    );
}

#[test]
fn labels() {
    for row in table("label", 22) {
        let [text, result] = row.cells();
        let got = match text.parse::<Label>() {
            Ok(label) => {
                assert_eq!(label.to_string(), text);
                "ok"
            }
            Err(reason) => name_error(&reason),
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn ids() {
    for row in table("id", 16) {
        let [text, result, role] = row.cells();
        let got = match text.parse::<DeviceId>() {
            Ok(id) => {
                assert_eq!(id.to_string(), text);
                let named = match id.role() {
                    Role::Controller => "controller",
                    Role::Target => "target",
                };
                assert_eq!(named, role, "{text:?}");
                "ok"
            }
            Err(reason) => name_error(&reason),
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn client_ids() {
    for row in table("client-id", 11) {
        let [suffix, client_id, device_id] = row.cells();
        let read = suffix
            .parse::<ClientIdSuffix>()
            .and_then(|suffix| Ok((suffix.device_id(&client_id)?, suffix)));
        let got = match read {
            Ok((id, suffix)) => {
                assert_eq!(suffix.client_id(&id), client_id);
                id.to_string()
            }
            Err(reason) => format!("refused {}", name_error(&reason)),
        };
        assert_eq!(got, device_id, "{client_id:?} with {suffix:?}");
    }
}

#[test]
fn lease_ids() {
    for row in table("lease", 7) {
        let [text, result] = row.cells();
        let got = match text.parse::<LeaseId>() {
            Ok(id) => {
                assert_eq!(id.to_string(), text);
                "ok"
            }
            Err(_) => "refused",
        };
        assert_eq!(got, result, "{text:?}");
    }
}

#[test]
fn topics() {
    for row in table("topic", 21) {
        let [text, meaning] = row.cells();
        let read = text.parse::<Topic>();
        if let Ok(topic) = &read {
            assert_eq!(topic.to_string(), text);
            assert!(text.split('/').count() <= limits::MAX_TOPIC_LEVELS);
        }
        let got = match read {
            Ok(Topic::Order { device, controller }) => {
                format!("order to {device} from {controller}")
            }
            Ok(Topic::Reply { controller, device }) => {
                format!("reply to {controller} from {device}")
            }
            Ok(Topic::Presence(device)) => format!("presence of {device}"),
            Ok(Topic::PlainControl(device)) => format!("plain order to {device}"),
            Ok(Topic::PlainState(device)) => format!("plain state of {device}"),
            Err(TopicError::Name(_)) => "refused name".to_owned(),
            Err(TopicError::TooLong { .. }) => "refused too-long".to_owned(),
            Err(TopicError::Unknown) => "refused unknown".to_owned(),
            Err(other) => panic!("{other:?} has no word in the page"),
        };
        assert_eq!(got, meaning, "{text:?}");
    }
}

#[test]
fn filters() {
    for row in table("filter", 4) {
        let [who, what, expected] = row.cells();
        let who: DeviceId = who.parse().unwrap();
        let got = match what.as_str() {
            "orders" => filter::orders(&who),
            "plain orders" => Topic::PlainControl(who).to_string(),
            "replies" => filter::replies(&who),
            "presences" => filter::presences(who.realm(), who.system()),
            other => panic!("no filter for {other:?}"),
        };
        assert_eq!(got, expected, "{what}");
    }
}

#[test]
fn stale_orders() {
    for row in table("stale", 11) {
        let [issued, lifetime, now, stale] = row.cells();
        let order = Order::Open {
            lease: lease("000102030405060708090a0b0c0d0e0f"),
            services: vec!["ssh".parse().unwrap()],
            issued: issued.parse().unwrap(),
            lifetime: Lifetime::from_secs(lifetime.parse().unwrap()).unwrap(),
        };
        let got = if order.is_stale(now.parse().unwrap()) {
            "yes"
        } else {
            "no"
        };
        assert_eq!(
            got, stale,
            "issued {issued}, lifetime {lifetime}, now {now}"
        );
    }
}

#[test]
fn plain_orders() {
    for row in table("plain-order", 9) {
        let [payload, expected] = row.cells();
        let read = PlainOrder::decode(payload.as_bytes());
        let got = read.map_or_else(|| "unknown".to_owned(), |order| order.to_string());
        assert_eq!(got, expected, "{payload:?}");
    }
}

#[test]
fn plain_states() {
    for row in table("plain-state", 18) {
        let [payload, state, written] = row.cells();
        let read = PlainState::decode(payload.as_bytes());
        let got = match read {
            None => "unknown".to_owned(),
            Some(PlainState::Disconnected) => "disconnected".to_owned(),
            Some(PlainState::Connected { port: None }) => "connected".to_owned(),
            Some(PlainState::Connected { port: Some(port) }) => format!("connected {port}"),
        };
        assert_eq!(got, state, "{payload:?}");
        assert_eq!(
            read.map(|state| state.to_string()).unwrap_or_default(),
            written
        );
    }
}

#[test]
fn limits_are_those_of_the_page() {
    let constants: BTreeMap<&str, u64> = BTreeMap::from([
        ("MAX_LABEL", limits::MAX_LABEL as u64),
        ("MAX_NAME", limits::MAX_NAME as u64),
        ("MAX_PAYLOAD", limits::MAX_PAYLOAD as u64),
        ("MAX_PLAIN", limits::MAX_PLAIN as u64),
        ("MAX_TOPIC", limits::MAX_TOPIC as u64),
        ("MAX_TOPIC_LEVELS", limits::MAX_TOPIC_LEVELS as u64),
        ("MAX_SERVICES", limits::MAX_SERVICES as u64),
        ("MAX_HOST_KEYS", limits::MAX_HOST_KEYS as u64),
        ("MAX_HOST_KEY", limits::MAX_HOST_KEY as u64),
        ("MAX_TEXT", limits::MAX_TEXT as u64),
        ("MAX_VERSION", limits::MAX_VERSION as u64),
        ("MAX_ADDRESS", limits::MAX_ADDRESS as u64),
        ("MAX_LIFETIME", u64::from(limits::MAX_LIFETIME)),
        ("CLOCK_SKEW", limits::CLOCK_SKEW),
    ]);
    let rows = table("limit", constants.len());
    let page: BTreeMap<String, u64> = rows
        .into_iter()
        .map(|row| {
            let [name, value, _of] = row.cells();
            (name, value.parse().unwrap())
        })
        .collect();
    let code: BTreeMap<String, u64> = constants
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(page, code);
}

#[test]
fn a_payload_over_the_cap_is_refused_unread() {
    let full = |length: usize| {
        let mut payload = br#"{"v":1,"order":"close"}"#.to_vec();
        payload.resize(length, b' ');
        payload
    };
    assert!(Order::decode(&full(limits::MAX_PAYLOAD)).is_ok());
    for payload in [
        full(limits::MAX_PAYLOAD + 1),
        vec![0; limits::MAX_PAYLOAD + 1],
    ] {
        let refusals = [
            Order::decode(&payload).unwrap_err(),
            Reply::decode(&payload).unwrap_err(),
            Presence::decode(&payload).unwrap_err(),
        ];
        assert!(
            refusals.iter().all(|r| refusal(r) == "too-large"),
            "{refusals:?}"
        );
    }
}

/// Runs the blocks of one kind: `name=` reads as the value of that name and is what it encodes to, `means=` reads as it,
/// `refused=` is refused for that reason. `least` says how many of each the page has at least.
fn run_messages<T: Clone + std::fmt::Debug + PartialEq>(
    kind: &str,
    named: &BTreeMap<&str, T>,
    read_only: &[(&str, T)],
    least: [usize; 3],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let mut known: BTreeMap<&str, T> = named.clone();
    known.extend(read_only.iter().cloned());
    let mut seen = [0; 3];
    let mut canonical = Vec::new();
    for block in blocks(kind) {
        let read = decode(block.text.as_bytes());
        let attribute = |key: &str| block.attributes.get(key).map(String::as_str);
        if let Some(name) = attribute("name") {
            seen[0] += 1;
            let value = &known[name];
            assert_eq!(&read.unwrap(), value, "line {}", block.line);
            let encoded: Value = serde_json::from_slice(&encode(value)).unwrap();
            let written: Value = serde_json::from_str(&block.text).unwrap();
            assert_eq!(encoded, written, "line {}", block.line);
            canonical.push(name.to_owned());
        } else if let Some(name) = attribute("means") {
            seen[1] += 1;
            assert_eq!(read.unwrap(), known[name], "line {}", block.line);
        } else if let Some(reason) = attribute("refused") {
            seen[2] += 1;
            let Err(error) = read else {
                panic!("line {}: taken for {read:?}", block.line);
            };
            assert_eq!(refusal(&error), reason, "line {}: {error:?}", block.line);
            assert_eq!(
                error.lease(),
                attribute("lease").map(lease),
                "line {}: {error:?}",
                block.line
            );
        } else {
            panic!("line {}: a vector without a result", block.line);
        }
    }
    canonical.sort();
    assert!(
        named.keys().eq(canonical.iter()),
        "each named value stands in the page once: {canonical:?}"
    );
    assert!(
        seen.iter().zip(least).all(|(seen, least)| *seen >= least),
        "{kind}: found {seen:?} vectors of [named, lenient, refused], expected {least:?}"
    );
}

fn refusal(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooLarge { .. } => "too-large",
        DecodeError::NotAMessage(_) => "not-a-message",
        DecodeError::Version { .. } => "version",
        DecodeError::Unknown { .. } => "unknown",
        DecodeError::Field { .. } => "field",
        other => panic!("{other:?} has no word in the page"),
    }
}

fn name_error(error: &NameError) -> &'static str {
    match error {
        NameError::Empty => "empty",
        NameError::LabelTooLong { .. } => "label-too-long",
        NameError::IdTooLong { .. } => "id-too-long",
        NameError::Character { .. } => "character",
        NameError::Hyphen => "hyphen",
        NameError::Parts { .. } => "parts",
        NameError::Suffix { .. } => "suffix",
        other => panic!("{other:?} has no word in the page"),
    }
}

fn lease(text: &str) -> LeaseId {
    text.parse().unwrap()
}

/// A fenced block of the page: ```` ```json KIND key=value … ````.
struct Block {
    line: usize,
    attributes: BTreeMap<String, String>,
    text: String,
}

fn blocks(kind: &str) -> Vec<Block> {
    let page = page();
    let mut lines = page.lines().enumerate();
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        let mut words = info.split(' ');
        if words.next() == Some("json") && words.next() == Some(kind) {
            let pair = |word: &str| {
                word.split_once('=')
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
            };
            found.push(Block {
                line: number + 1,
                attributes: words.map(|word| pair(word).expect("key=value")).collect(),
                text: text.join("\n"),
            });
        }
    }
    found
}

/// A row of a table of the page.
struct Row(Vec<String>);

impl Row {
    fn cells<const N: usize>(self) -> [String; N] {
        self.0.try_into().expect("as many cells as the test reads")
    }
}

/// The rows of the table behind `<!-- vectors: NAME -->`, of which there are `count`.
fn table(name: &str, count: usize) -> Vec<Row> {
    let page = page();
    let marker = format!("<!-- vectors: {name} -->");
    let rows: Vec<Row> = page
        .lines()
        .skip_while(|line| *line != marker)
        .skip(3)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let inner = line.trim_matches('|').replace("\\|", "\u{0}");
            Row(inner
                .split('|')
                .map(|cell| value(&cell.replace('\u{0}', "|")))
                .collect())
        })
        .collect();
    assert_eq!(rows.len(), count, "rows of the table {name}");
    rows
}

/// What a cell means: text, perhaps in backticks; in it a JSON string, or `{x*63}` for repetition.
fn value(cell: &str) -> String {
    let text = cell.trim();
    let text = text
        .strip_prefix('`')
        .and_then(|text| text.strip_suffix('`'))
        .unwrap_or(text);
    if text.starts_with('"') {
        return serde_json::from_str(text).expect("a JSON string");
    }
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, (repeated, after))) = rest
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let (what, times) = repeated.split_once('*').expect("{text*times}");
        expanded += before;
        expanded += &what.repeat(times.parse().expect("a number of times"));
        rest = after;
    }
    expanded + rest
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    std::fs::read_to_string(path).expect("the normative page")
}
