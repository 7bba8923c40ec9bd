//! The program `hig` as a library: with parts of one's own it trains, compares, checks, times and draws one's own
//! problems.
//!
//! ```no_run
//! use halfinverse::simulator::ScalingSettings; // a simulator of one's own in its place
//! fn main() -> std::process::ExitCode {
//!     hig::Program::new().parts(|registry| registry.simulator::<ScalingSettings>()).run()
//! }
//! ```

mod arguments;
mod bench;
pub mod chart;
mod check;
#[cfg(test)]
#[path = "../../halfinverse/tests/common/damage.rs"]
mod damage;
mod failure;
mod fit;
mod folder;
mod interrupt;
mod lists;
mod memory;
mod picture;
mod predict;
mod report;
mod run;
mod settings;
mod spectrum;
mod statistics;
mod study;
mod tasks;
mod train;
mod voice;
mod watcher;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};
use halfinverse::SettingError;
use halfinverse::task::Registry;

use arguments::{Arguments, Command};
pub use picture::Picture;
use picture::Pictures;
/// For pictures of one's own.
pub use plotters;

/// The program, with what it knows.
pub struct Program {
    registry: Registry,
    pictures: Pictures,
    name: &'static str,
    /// A task that could not be read, said when the program runs.
    refused: Option<SettingError>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// With all that comes with the crates.
    #[must_use]
    pub fn new() -> Self {
        Self { registry: Registry::standard(), pictures: Pictures::standard(), name: "hig", refused: None }
    }

    /// Under another name, as users type it.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// With parts of one's own.
    #[must_use]
    pub fn parts(mut self, more: impl FnOnce(Registry) -> Registry) -> Self {
        self.registry = more(self.registry);
        self
    }

    /// With a task, as the text of its file. A text that is no task file, or has a name that is taken, is refused when
    /// the program runs.
    #[must_use]
    pub fn task(mut self, text: &str) -> Self {
        match self.registry.clone().task(text) {
            Ok(registry) => self.registry = registry,
            Err(error) => self.refused = self.refused.or(Some(error)),
        }
        self
    }

    /// With a picture of what simulators of a kind do, for the reports.
    #[must_use]
    pub fn picture(mut self, kind: &'static str, picture: impl Picture + 'static) -> Self {
        self.pictures.add(kind, Arc::new(picture));
        self
    }

    /// Does what the command line says; returns the program's exit code.
    #[must_use]
    pub fn run(self) -> ExitCode {
        voice::set_program(self.name);
        if let Some(error) = &self.refused {
            voice::complain(&format!("a task of this program's own: {error}"));
            return ExitCode::from(2);
        }
        let matches = Arguments::command().name(self.name).bin_name(self.name).get_matches();
        let arguments = match Arguments::from_arg_matches(&matches) {
            Ok(arguments) => arguments,
            Err(error) => error.exit(),
        };
        let (registry, pictures) = (&self.registry, &self.pictures);
        let result = match arguments.command {
            Command::Tasks(arguments) => tasks::run(registry, &arguments),
            Command::Train(arguments) => train::run(registry, pictures, &arguments),
            Command::Fit(arguments) => train::fit(registry, pictures, arguments),
            Command::Predict(arguments) => predict::run(registry, &arguments),
            Command::Resume(arguments) => train::resume(registry, pictures, &arguments),
            Command::Compare(arguments) => study::compare(registry, &arguments),
            Command::Ablate(arguments) => study::ablate(registry, &arguments),
            Command::Spectrum(arguments) => spectrum::run(registry, &arguments),
            Command::Check(arguments) => check::run(registry, &arguments),
            Command::Bench(arguments) => bench::run(registry, &arguments),
            Command::Report(arguments) => report::run(registry, pictures, &arguments),
        };
        match result {
            Ok(code) => code,
            Err(failure) => {
                voice::complain(&failure.to_string());
                ExitCode::from(failure.code())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn a_task_that_is_none_is_kept_for_a_refusal() {
        for (text, words) in [
            ("task = ", "TOML"),
            ("about = 'no name'", "a name of its own"),
            ("task = 'toy'", "taken: toy"),
            ("task = 'mine'\nsimulatr = 1", "did you mean `simulator`?"),
        ] {
            let refused = Program::new().task(text).refused.map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|said| said.contains(words)), "{text}: {refused:?}");
        }
        assert!(Program::new().task("task = 'mine'").refused.is_none());
    }
}
