//! The normative page, read.

use std::collections::BTreeMap;
use std::path::Path;

/// A fenced block of the page: ```` ```json KIND key=value … ````.
pub(crate) struct Block {
    /// Where it stands in the page, from 1.
    pub(crate) line: usize,
    /// Its keys and values.
    pub(crate) attributes: BTreeMap<String, String>,
    /// What stands in it.
    pub(crate) text: String,
}

/// All blocks of this kind.
pub(crate) fn blocks(kind: &str) -> Vec<Block> {
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
pub(crate) struct Row(Vec<String>);

impl Row {
    /// Its cells, as the values that they mean.
    pub(crate) fn cells<const N: usize>(self) -> [String; N] {
        self.0.try_into().expect("as many cells as the test reads")
    }
}

/// The rows of the table behind `<!-- vectors: NAME -->`, of which there are `count`.
pub(crate) fn table(name: &str, count: usize) -> Vec<Row> {
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
