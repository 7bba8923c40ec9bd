//! A refusal, worded for the person: what is wrong, where, and how to mend it, in one sentence.

use std::fmt;

use halfinverse::task::nearest;

/// What ends the program.
#[derive(Debug)]
pub(crate) struct Failure {
    sentence: String,
    code: u8,
}

impl Failure {
    /// Of what was asked for: exit code 2.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 2 }
    }

    /// Of a file that could not be written while a run was under way: exit code 1.
    pub(crate) fn of_writing(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), code: 1 }
    }

    /// With more to be said.
    pub(crate) fn with(self, more: &str) -> Self {
        Self { sentence: format!("{}, {more}", self.sentence), ..self }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<halfinverse::SettingError> for Failure {
    fn from(error: halfinverse::SettingError) -> Self {
        Self::new(error.to_string())
    }
}

/// A name that is not among those known.
pub(crate) fn unknown_name(what: &str, name: &str, place: &str, known: &[String]) -> Failure {
    let mend = nearest(name, known.iter().map(String::as_str))
        .unwrap_or_else(|| format!("known: {}", known.join(", ")));
    Failure::new(format!("unknown {what} `{name}`{place}; {mend}"))
}
