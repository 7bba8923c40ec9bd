//! Settings and shapes that were refused, with the numbers that say where.

use std::ops::Range;

/// A setting that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Its value cannot be used.
    #[error("`{key}` is {found}, but must be {expected}")]
    Refused {
        /// Dotted name of the setting, from the part that refused it.
        key: String,
        /// The value that was given.
        found: String,
        /// What would have been accepted.
        expected: String,
    },
    /// The part that it makes does not fit the others.
    #[error("`{key}` does not fit: {reason}")]
    Misfit {
        /// Dotted name of the setting, from the part that refused it.
        key: String,
        /// Which sizes there are, and which are needed.
        reason: String,
    },
    /// Its text cannot be read.
    #[error("`{key}`: {reason}\n{}", underlined(text, place))]
    Unreadable {
        /// Dotted name of the setting, from the part that refused it.
        key: String,
        /// The text.
        text: String,
        /// Its characters that are wrong.
        place: Range<usize>,
        /// What is wrong with them, and the mend.
        reason: String,
    },
    /// It names a file that cannot be used.
    #[error("{sentence}")]
    Contents {
        /// Dotted name of the setting.
        key: String,
        /// What is wrong with the file, where in it, and how to mend it.
        sentence: String,
    },
    /// There is none of this name.
    #[error("unknown setting `{key}`; {}", mend(key, known))]
    Unknown {
        /// The name.
        key: String,
        /// The names that there are.
        known: Vec<String>,
    },
}

impl SettingError {
    /// A setting with the value found and what would have been accepted.
    pub fn new(key: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        Self::Refused { key: key.to_owned(), found: found.to_string(), expected: expected.to_string() }
    }

    /// A setting whose part does not fit the others, for the reason given.
    pub fn misfit(key: &str, reason: impl std::fmt::Display) -> Self {
        Self::Misfit { key: key.to_owned(), reason: reason.to_string() }
    }

    /// A name that is not among those known.
    pub(crate) fn unknown<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known = known.into_iter().map(str::to_owned).collect();
        Self::Unknown { key: key.to_owned(), known }
    }

    /// A kind of part, or its name, that is not among those known.
    pub(crate) fn unknown_kind<'a>(key: &str, kind: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        let near = nearest(kind, known.iter().copied()).map_or_else(String::new, |near| format!("; {near}"));
        let found = if kind.is_empty() { "absent".to_owned() } else { format!("`{kind}`") };
        Self::new(key, found, format!("one of {}{near}", known.join(", ")))
    }

    /// Dotted name of the setting.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Refused { key, .. }
            | Self::Misfit { key, .. }
            | Self::Unreadable { key, .. }
            | Self::Contents { key, .. }
            | Self::Unknown { key, .. } => key,
        }
    }

    /// The same, with the name of the section that the setting stands in before its own.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        let put = |key: &mut String| {
            *key = if key.is_empty() { section.to_owned() } else { format!("{section}.{key}") };
        };
        match &mut self {
            Self::Refused { key, .. } | Self::Misfit { key, .. } | Self::Unreadable { key, .. } => put(key),
            // Its setting has its whole name already.
            Self::Contents { .. } => {}
            Self::Unknown { key, known } => {
                put(key);
                known.iter_mut().for_each(put);
            }
        }
        self
    }

    /// `Ok` for a number that is positive and finite.
    ///
    /// # Errors
    /// For any other.
    pub fn check_positive(key: &str, value: f64) -> Result<(), Self> {
        if value > 0.0 && value.is_finite() {
            return Ok(());
        }
        Err(Self::new(key, value, "positive and finite"))
    }

    /// `Ok` for a decay rate or momentum, from 0 to below 1.
    ///
    /// # Errors
    /// For any other number.
    pub fn check_fraction(key: &str, value: f64) -> Result<(), Self> {
        if (0.0..1.0).contains(&value) {
            return Ok(());
        }
        Err(Self::new(key, value, "at least 0 and below 1"))
    }

    /// `Ok` for a weight decay: 0 or positive, and finite.
    ///
    /// # Errors
    /// For any other number.
    pub fn check_decay(key: &str, value: f64) -> Result<(), Self> {
        if value >= 0.0 && value.is_finite() {
            return Ok(());
        }
        Err(Self::new(key, value, "0 or positive, and finite"))
    }
}

/// Characters of a text that are shown before and behind those that are wrong.
const AROUND: usize = 60;

/// The text, on a line of its own, and `^` below the characters of `place`.
fn underlined(text: &str, place: &Range<usize>) -> String {
    let line: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let start = place.start.min(line.len());
    let end = place.end.clamp(start + 1, start + AROUND);
    let (from, to) = (start.saturating_sub(AROUND), line.len().min(end + AROUND));
    let mark = |cut: bool| if cut { "…" } else { "" };
    let (before, behind) = (mark(from > 0), mark(to < line.len()));
    let shown: String = line[from..to].iter().collect();
    let indent = " ".repeat(start - from + before.chars().count());
    format!("    {before}{shown}{behind}\n    {indent}{}", "^".repeat(end - start))
}

/// The nearest of the names that there are, or all of them.
fn mend(key: &str, known: &[String]) -> String {
    // What all names of a section have in common makes none nearer.
    let section = key.rfind('.').map_or("", |end| &key[..=end]);
    let own = known.iter().map(|name| name.strip_prefix(section)).collect::<Option<Vec<&str>>>();
    let near = match own {
        Some(own) => nearest(&key[section.len()..], own.iter().copied())
            .map(|near| near.replacen('`', &format!("`{section}"), 1)),
        None => nearest(key, known.iter().map(String::as_str)),
    };
    near.unwrap_or_else(|| match known {
        [] => "there is none here".to_owned(),
        known => format!("known here: {}", known.join(", ")),
    })
}

/// `did you mean …?` for the nearest of `names`, if one is near.
#[must_use]
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = wanted.chars().count();
    names
        .into_iter()
        // Comparing takes memory for each pair of letters, and a word so much longer or shorter is not near.
        .filter(|name| length.abs_diff(name.chars().count()) <= 2.max(name.len() / 3))
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .min()
        // A name of which no letter is right is not near either.
        .filter(|&(distance, name)| distance < length && distance <= 2.max(name.len() / 3))
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

/// Two parts of a model or a data set that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: expected {expected} {unit}, found {found}")]
pub struct ShapeError {
    /// The part that does not fit.
    pub what: String,
    /// The size that its neighbour needs.
    pub expected: usize,
    /// The size it has.
    pub found: usize,
    /// What is being counted.
    pub unit: &'static str,
}

impl ShapeError {
    /// So many of something, where its neighbour needs another number.
    #[must_use]
    pub fn new(what: &str, unit: &'static str, expected: usize, found: usize) -> Self {
        Self { what: what.to_owned(), expected, found, unit }
    }

    /// `Ok` when `found == expected`.
    ///
    /// # Errors
    /// The mismatch, named by `what` and `unit`.
    pub fn check(what: &str, unit: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if found == expected {
            return Ok(());
        }
        Err(Self::new(what, unit, expected, found))
    }
}
