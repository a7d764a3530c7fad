//! A resource's name with wildcards and variables, and whether a text fits it.

use std::fmt;

use crate::Variable;

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `${` without its `}`.
    #[error("`${{` is never closed")]
    Unclosed,
    /// A variable that is not one of [`Variable`]. As text it would match nothing, and a Deny would deny nothing.
    #[error("`${{{name}}}` is not a known variable")]
    UnknownVariable {
        /// What stands between the braces.
        name: String,
    },
}

/// A parsed pattern. Wildcards run across `/`; `+`, `#` and a lone `$` are letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This very text; never empty.
    Text(Box<str>),
    /// This value of the client, as text.
    Variable(Variable),
    /// `?`: one character.
    One,
    /// `*`: any number of characters, none included.
    Run,
}

/// How a text stands to a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It does not match.
    Differs,
    /// Nobody can say, because the client has no value for a variable.
    Unknown,
    /// It matches.
    Matches,
}

impl Pattern {
    /// Reads a pattern; the empty text is the pattern of the empty text.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = next_piece(rest)?;
            rest = after;
            // `**` says no more than `*`, and would cost a search for each star.
            if piece != Piece::Run || pieces.last() != Some(&Piece::Run) {
                pieces.push(piece);
            }
        }
        Ok(Self(pieces))
    }

    /// The same pattern with this text before it.
    pub(crate) fn after(&self, prefix: &str) -> Self {
        let mut pieces = self.0.clone();
        if let Some(Piece::Text(first)) = pieces.first_mut() {
            *first = format!("{prefix}{first}").into();
        } else if !prefix.is_empty() {
            pieces.insert(0, Piece::Text(prefix.into()));
        }
        Self(pieces)
    }

    /// Its parts in order.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The variables in it.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(*variable),
            Piece::Text(_) | Piece::One | Piece::Run => None,
        })
    }

    /// Whether the text fits, with the client's values in place of the variables.
    ///
    /// A star takes as little as it can and is only ever lengthened when it is the last one passed, which decides
    /// correctly and needs at most one comparison of the text behind it for each character: no input is exponential.
    pub(crate) fn fit<'v>(&self, value: impl Fn(Variable) -> Option<&'v str>, text: &str) -> Fit {
        if self.variables().any(|variable| value(variable).is_none()) {
            return Fit::Unknown;
        }
        let mut pieces = self.0.as_slice();
        let mut rest = text;
        let mut last_run = None;
        loop {
            let step = match pieces.split_first() {
                None if rest.is_empty() => return Fit::Matches,
                None => None,
                Some((Piece::Run, [])) => return Fit::Matches,
                Some((Piece::Run, after)) => {
                    last_run = Some((after, rest));
                    Some((after, rest))
                }
                Some((Piece::One, after)) => without_first(rest).map(|rest| (after, rest)),
                Some((Piece::Text(literal), after)) => {
                    rest.strip_prefix(&**literal).map(|rest| (after, rest))
                }
                Some((Piece::Variable(variable), after)) => value(*variable)
                    .and_then(|value| rest.strip_prefix(value))
                    .map(|rest| (after, rest)),
            };
            (pieces, rest) = match (step, last_run) {
                (Some(next), _) => next,
                (None, None) => return Fit::Differs,
                (None, Some((after, from))) => {
                    let Some(from) = without_first(from) else {
                        return Fit::Differs;
                    };
                    last_run = Some((after, from));
                    (after, from)
                }
            };
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Variable(variable) => write!(f, "${{{variable}}}"),
            Piece::One => f.write_str("?"),
            Piece::Run => f.write_str("*"),
        })
    }
}

/// Takes the first piece off a text that is not empty.
fn next_piece(text: &str) -> Result<(Piece, &str), PatternError> {
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Piece::Run, rest));
    }
    if let Some(rest) = text.strip_prefix('?') {
        return Ok((Piece::One, rest));
    }
    if let Some(rest) = text.strip_prefix("${") {
        let (name, rest) = rest.split_once('}').ok_or(PatternError::Unclosed)?;
        return match Variable::ALL
            .into_iter()
            .find(|variable| variable.name() == name)
        {
            Some(variable) => Ok((Piece::Variable(variable), rest)),
            None => Err(PatternError::UnknownVariable {
                name: name.to_owned(),
            }),
        };
    }
    let end = [text.find(['*', '?']), text.find("${")]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(text.len());
    let (literal, rest) = text.split_at(end);
    Ok((Piece::Text(literal.into()), rest))
}

/// The text behind its first character.
fn without_first(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().fit(|_| None, text) == Fit::Matches
    }

    /// The meaning of wildcards, written down without any thought of cost.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some(('?', rest)) => !text.is_empty() && naive(rest, &text[1..]),
            Some((literal, rest)) => text.first() == Some(literal) && naive(rest, &text[1..]),
        }
    }

    #[test]
    fn wildcards_run_across_levels_and_filters_are_letters() {
        assert!(matches("a/*/c", "a/b/b/c"));
        assert!(matches("a/*/c", "a//c"));
        assert!(!matches("a/*/c", "a/c"));
        assert!(matches("a?c", "a/c"));
        assert!(matches("a?c", "aéc"));
        assert!(!matches("a?c", "ac"));
        assert!(matches("a/+", "a/+"));
        assert!(!matches("a/+", "a/b"));
        assert!(!matches("a/#", "a/b"));
        assert!(matches("$aws/*", "$aws/things"));
        assert!(matches("*", ""));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
    }

    #[test]
    fn many_stars_cost_no_more_than_text_times_pattern() {
        // Backtracking into every star would need more than 10^20 steps here; the test would not end.
        let text = "a".repeat(4096);
        assert!(!matches(&format!("{}b", "*a".repeat(500)), &text));
        assert!(matches(&"*a".repeat(500), &text));
        assert!(!matches(&format!("*{}b*", "a".repeat(500)), &text));
        assert!(!matches(&format!("{}b", "*?".repeat(500)), &text));
    }

    #[test]
    fn unknown_variables_are_errors() {
        let unknown = |name: &str| {
            Err(PatternError::UnknownVariable {
                name: name.to_owned(),
            })
        };
        assert_eq!(
            Pattern::parse("a/${iot:Connection.Thing.ThingName}"),
            unknown("iot:Connection.Thing.ThingName")
        );
        assert_eq!(Pattern::parse("${iot:clientid}"), unknown("iot:clientid"));
        assert_eq!(Pattern::parse("${*}"), unknown("*"));
        assert_eq!(Pattern::parse("${}"), unknown(""));
        assert_eq!(
            Pattern::parse("a/${iot:ClientId"),
            Err(PatternError::Unclosed)
        );
    }

    #[test]
    fn a_missing_value_is_neither_yes_nor_no() {
        let pattern = Pattern::parse("a/${iot:Certificate.Subject.Organization}").unwrap();
        assert_eq!(pattern.fit(|_| None, "a/b"), Fit::Unknown);
        assert_eq!(
            pattern.fit(|_| None, "never reaches the variable"),
            Fit::Unknown
        );
        assert_eq!(pattern.fit(|_| Some("b"), "a/b"), Fit::Matches);
    }

    proptest! {
        #[test]
        fn the_fast_matcher_agrees_with_the_naive_one(pattern in "[ab/é*?]{0,9}", text in "[ab/é]{0,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn without_wildcards_matching_is_equality(pattern in "[^*?$]{0,12}", text in "[^*?$]{0,12}") {
            prop_assert_eq!(matches(&pattern, &text), pattern == text);
            prop_assert!(matches(&pattern, &pattern));
        }

        #[test]
        fn a_value_is_only_ever_itself(value in r"[ab*?$/+#{}]{1,8}", text in r"[ab*?$/+#{}]{0,10}") {
            let alone = Pattern::parse("${iot:ClientId}").unwrap();
            prop_assert_eq!(alone.fit(|_| Some(&value), &text) == Fit::Matches, value == text);
            let within = Pattern::parse("*/${iot:ClientId}").unwrap();
            let wanted = text.ends_with(&format!("/{value}"));
            prop_assert_eq!(within.fit(|_| Some(&value), &text) == Fit::Matches, wanted);
        }

        #[test]
        fn a_pattern_prints_as_it_was(text in r"(a|/|\*|\?|\$|\+|#|\$\{iot:ClientId\}|é){0,9}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let mut single = text.clone();
                while single.contains("**") {
                    single = single.replace("**", "*");
                }
                prop_assert_eq!(pattern.to_string(), single);
            }
        }

        #[test]
        fn nothing_panics(pattern in any::<String>(), text in any::<String>()) {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.fit(|_| None, &text);
            }
        }
    }
}
