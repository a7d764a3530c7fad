//! The words of the command line.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crate::step::ChoreError;

/// The words that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Arguments(VecDeque<String>);

impl Arguments {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Takes the next word.
    pub(crate) fn word(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// Takes a flag such as `--json`, wherever it stands before `--`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let position = self.options().position(|word| word == name);
        position.and_then(|index| self.0.remove(index)).is_some()
    }

    /// Takes an option with a number, such as `--runs 50`.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<usize>, ChoreError> {
        let Some(index) = self.options().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(index);
        let number = self.0.remove(index).and_then(|word| word.parse().ok());
        number
            .map(Some)
            .ok_or_else(|| ChoreError::Usage(format!("`{name}` needs a number")))
    }

    /// Takes an option with a text, such as `--version 1.2`.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ChoreError> {
        let Some(index) = self.options().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(index);
        let text = self.0.remove(index);
        text.map(Some)
            .ok_or_else(|| ChoreError::Usage(format!("`{name}` needs a value")))
    }

    /// Takes an option with a path, such as `--out folder`.
    pub(crate) fn path(&mut self, name: &str) -> Result<Option<PathBuf>, ChoreError> {
        Ok(self.text(name)?.map(PathBuf::from))
    }

    /// Takes an option with milliseconds, such as `--rtt 100ms`.
    pub(crate) fn millis(&mut self, name: &str) -> Result<Option<Duration>, ChoreError> {
        let Some(index) = self.options().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(index);
        let word = self.0.remove(index);
        let number = word
            .and_then(|word| word.strip_suffix("ms")?.parse().ok())
            .filter(|number| *number > 0);
        number
            .map(|number| Some(Duration::from_millis(number)))
            .ok_or_else(|| {
                ChoreError::Usage(format!("`{name}` needs milliseconds such as `100ms`"))
            })
    }

    /// Takes what follows `--`; anything else that is left is an error.
    pub(crate) fn rest(mut self) -> Result<Vec<String>, ChoreError> {
        match self.word().as_deref() {
            None => Ok(Vec::new()),
            Some("--") => Ok(self.0.into()),
            Some(other) => Err(ChoreError::Usage(format!("unexpected `{other}`"))),
        }
    }

    /// Ends the command line: nothing may be left.
    pub(crate) fn none_left(self) -> Result<(), ChoreError> {
        match self.rest()?.first() {
            None => Ok(()),
            Some(word) => Err(ChoreError::Usage(format!("unexpected `{word}`"))),
        }
    }

    fn options(&self) -> impl Iterator<Item = &String> {
        self.0.iter().take_while(|word| *word != "--")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_stand_anywhere_before_the_rest() {
        let mut arguments = arguments("connect --runs 7 --json -- --check x");
        assert_eq!(arguments.word().as_deref(), Some("connect"));
        assert!(arguments.flag("--json"));
        assert!(!arguments.flag("--check"));
        assert_eq!(arguments.number("--runs").unwrap(), Some(7));
        assert_eq!(arguments.millis("--rtt").unwrap(), None);
        assert_eq!(arguments.rest().unwrap(), ["--check", "x"]);
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        assert!(arguments("--what").none_left().is_err());
        assert!(arguments("-- more").none_left().is_err());
        assert!(arguments("--runs many").number("--runs").is_err());
        for wrong in ["--rtt 100", "--rtt 0ms", "--rtt"] {
            assert!(arguments(wrong).millis("--rtt").is_err(), "{wrong}");
        }
    }
}
