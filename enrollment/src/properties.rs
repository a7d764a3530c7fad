//! The text form of `java.util.Properties`, in which the original keeps its files.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Reads a text of `KEY=VALUE` lines. Comments begin with `#` or `!`; `=`, `:` or blanks part a key from its value; a
/// backslash takes the next character as it is, or begins `\t`, `\n`, `\r`, `\f`, `\uXXXX` or a continued line. Of a key
/// that comes twice the last value counts. No text is wrong: what is no escape stands for itself.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while is_continued(&logical) {
            logical.pop();
            let Some(next) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (key, value) = split(&logical);
        properties.insert(key, value);
    }
    properties
}

fn is_continued(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn split(line: &str) -> (String, String) {
    let mut chars = line.chars().peekable();
    let mut key = String::new();
    while let Some(&next) = chars.peek() {
        if next == '=' || next == ':' || BLANK.contains(&next) {
            break;
        }
        chars.next();
        push(&mut key, next, &mut chars);
    }
    skip_blanks(&mut chars);
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        skip_blanks(&mut chars);
    }
    let mut value = String::new();
    while let Some(next) = chars.next() {
        push(&mut value, next, &mut chars);
    }
    (key, value)
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| BLANK.contains(c)).is_some() {}
}

fn push(text: &mut String, c: char, rest: &mut Peekable<Chars<'_>>) {
    if c != '\\' {
        text.push(c);
        return;
    }
    match rest.next() {
        Some('t') => text.push('\t'),
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('f') => text.push('\u{c}'),
        Some('u') => {
            let mut code = 0;
            for _ in 0..4 {
                let Some(digit) = rest.peek().and_then(|c| c.to_digit(16)) else {
                    break;
                };
                rest.next();
                code = code * 16 + digit;
            }
            text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Some(other) => text.push(other),
        None => {}
    }
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_original_permissions_are_read() {
        let text = "#created programmatically\n#Sun Apr 16 10:00:00 IDT 2023\nhula+octo=allow\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found["hula+octo"], "allow");
    }

    #[test]
    fn escapes_and_separators_are_those_of_java() {
        let text =
            "a\\:b = c\\u0041\n! no\n  k : v\nlong=one\\\n   two\nempty\nlast=1\nlast=2\\\\\nw x y";
        let found = parse(text);
        let expected = [
            ("a:b", "cA"),
            ("empty", ""),
            ("k", "v"),
            ("last", "2\\"),
            ("long", "onetwo"),
            ("w", "x y"),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\\\u0-9a-f=: \\n#!\u{e9}]{0,80}") {
            parse(&text);
        }
    }
}
