//! `hig`: train, compare, check, time and draw half-inverse gradient runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    hig::Program::new().run()
}
