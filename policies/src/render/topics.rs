//! A pattern with free wildcards, as topics with MQTT's wildcards.

use crate::pattern::{Fit, Pattern, Piece};
use crate::subject::Subject;

/// A level that has no such form: one with a character that would be read as a wildcard or end the line, or a second mixed
/// one, as two of them would make a topic for each pair of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnfitLevel(pub(super) String);

/// One level of a pattern, or of a filter.
enum Level {
    /// This text.
    Text(String),
    /// A star alone.
    Any,
    /// Text and wildcards mixed, which MQTT has no form for.
    Mixed(Pattern),
}

/// Topics which together are no more than the pattern for this subject: a star that is a whole level becomes `+`, and
/// a level that is partly wildcard becomes each of the known names that fits it. What only a star across levels would
/// match is left out, so the topics may be less than the pattern. There are none where no known name fits, and where the
/// subject lacks a value: an Allow without its value says nothing.
pub(super) fn topics(
    pattern: &Pattern,
    subject: &Subject,
    known: &[&str],
) -> Result<Vec<String>, UnfitLevel> {
    expanded(levels(pattern, subject, level)?, known)
}

/// Like [`topics`], for a pattern of filters: a `+` in it is MQTT's own.
pub(super) fn filters(
    pattern: &Pattern,
    subject: &Subject,
    known: &[&str],
) -> Result<Vec<String>, UnfitLevel> {
    expanded(levels(pattern, subject, filter_level)?, known)
}

/// The part of a filter, which [`filters`] has made, that fits the pattern too; where the filter has `+` and the pattern a
/// level that is partly wildcard it stays `+`. None when nothing fits both.
pub(super) fn meet(
    filter: &str,
    pattern: &Pattern,
    subject: &Subject,
) -> Result<Option<String>, UnfitLevel> {
    let Some(levels) = levels(pattern, subject, level)? else {
        return Ok(None);
    };
    let places: Vec<_> = filter.split('/').collect();
    if places.len() != levels.len() {
        return Ok(None);
    }
    let narrowed: Option<Vec<_>> = places
        .iter()
        .zip(&levels)
        .map(|(place, level)| level.within(place))
        .collect();
    Ok(narrowed.map(|levels| levels.join("/")))
}

impl Level {
    /// What a level of a filter becomes that is to fit this one too.
    fn within<'a>(&'a self, place: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(text) if place == "+" || text == place => Some(text),
            Self::Text(_) => None,
            Self::Any => Some(place),
            Self::Mixed(mixed) => {
                (place == "+" || mixed.fit(|_| None, place) == Fit::Matches).then_some(place)
            }
        }
    }
}

fn expanded(levels: Option<Vec<Level>>, known: &[&str]) -> Result<Vec<String>, UnfitLevel> {
    let Some(levels) = levels else {
        return Ok(Vec::new());
    };
    let mut mixed = levels.iter().filter_map(|level| match level {
        Level::Mixed(mixed) => Some(mixed),
        Level::Text(_) | Level::Any => None,
    });
    if let Some(second) = mixed.nth(1) {
        return Err(UnfitLevel(second.to_string()));
    }
    let mut topics = vec![String::new()];
    for (place, level) in levels.iter().enumerate() {
        let names: Vec<&str> = match level {
            Level::Text(text) => vec![text],
            Level::Any => vec!["+"],
            Level::Mixed(mixed) => known
                .iter()
                .copied()
                .filter(|name| mixed.fit(|_| None, name) == Fit::Matches)
                .collect(),
        };
        let slash = if place == 0 { "" } else { "/" };
        topics = topics
            .iter()
            .flat_map(|topic| {
                names
                    .iter()
                    .map(move |name| format!("{topic}{slash}{name}"))
            })
            .collect();
    }
    Ok(topics)
}

/// None where the subject lacks a value.
fn levels(
    pattern: &Pattern,
    subject: &Subject,
    level: impl Fn(&str) -> Result<Level, UnfitLevel>,
) -> Result<Option<Vec<Level>>, UnfitLevel> {
    let mut texts = String::new();
    for piece in pattern.pieces() {
        match piece {
            Piece::Text(text) => texts.push_str(text),
            Piece::Variable(variable) => match subject.value(*variable) {
                Some(value) => texts.push_str(value),
                None => return Ok(None),
            },
            Piece::One => texts.push('?'),
            Piece::Run => texts.push('*'),
        }
    }
    texts
        .split('/')
        .map(level)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn filter_level(text: &str) -> Result<Level, UnfitLevel> {
    if text == "+" {
        return Ok(Level::Any);
    }
    level(text)
}

/// `*` and `?` are wildcards here, as a pattern's text and a subject's values have neither.
fn level(text: &str) -> Result<Level, UnfitLevel> {
    let unfit = |c: char| matches!(c, '+' | '#') || c.is_whitespace() || c.is_control();
    if text.contains(unfit) {
        return Err(UnfitLevel(text.to_owned()));
    }
    if text == "*" {
        return Ok(Level::Any);
    }
    if !text.contains(['*', '?']) {
        return Ok(Level::Text(text.to_owned()));
    }
    Pattern::parse(text)
        .map(Level::Mixed)
        .map_err(|_| UnfitLevel(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pattern: &str, known: &[&str]) -> Result<Vec<String>, UnfitLevel> {
        let subject = Subject::new("id")
            .unwrap()
            .with_organization("hula")
            .unwrap();
        topics(&Pattern::parse(pattern).unwrap(), &subject, known)
    }

    #[test]
    fn whole_levels_become_wildcards_and_parts_become_names() {
        let known = ["333", "controller", "controller-a"];
        let cases: [(&str, &[&str]); 6] = [
            ("a/b", &["a/b"]),
            (
                "a/${iot:Certificate.Subject.Organization}/*/x",
                &["a/hula/+/x"],
            ),
            ("a/*", &["a/+"]),
            ("a/controller*/b", &["a/controller/b", "a/controller-a/b"]),
            ("a/33?", &["a/333"]),
            ("a/none*/b", &[]),
        ];
        for (pattern, wanted) in cases {
            assert_eq!(written(pattern, &known).unwrap(), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_has_no_form_is_an_error_and_what_lacks_a_value_says_nothing() {
        for level in ["+", "#", "b c", "b\nuser c"] {
            assert_eq!(
                written(&format!("a/{level}"), &[]),
                Err(UnfitLevel(level.to_owned()))
            );
        }
        assert_eq!(written("a*/b/c?", &[]), Err(UnfitLevel("c?".to_owned())));
        assert_eq!(
            written("a/${iot:Certificate.Subject.CommonName}", &[]),
            Ok(vec![])
        );
    }
}
