//! Text for people goes to stderr, data to stdout; a reader who has gone away is no error.

use std::io::Write;

/// A line for people, unless they asked for none.
pub(crate) fn say(quiet: bool, line: &str) {
    if !quiet {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// A line of what was asked for.
pub(crate) fn put(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
