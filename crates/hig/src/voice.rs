//! Text for people goes to stderr, data to stdout; a reader who has gone away is no error.

use std::io::Write;
use std::sync::OnceLock;

static PROGRAM: OnceLock<&str> = OnceLock::new();

/// The program's name from here on.
pub(crate) fn set_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

/// The program's name, as users type it.
pub(crate) fn program() -> &'static str {
    PROGRAM.get().copied().unwrap_or("hig")
}

/// A line that says who speaks.
pub(crate) fn complain(line: &str) {
    say(false, &format!("{}: {line}", program()));
}

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
