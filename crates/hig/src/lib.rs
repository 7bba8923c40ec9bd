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
mod ranks;
mod report;
mod run;
mod settings;
mod spectrum;
mod statistics;
mod study;
mod tasks;
mod tensorboard;
mod train;
mod view;
mod voice;
mod watcher;

use std::ffi::OsString;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};
use halfinverse::SettingError;
use halfinverse::task::Registry;

use arguments::{Arguments, Command};
use failure::Failure;
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
        ranks::among(|| self.run_one())
    }

    /// The same on one rank of several; all but the first say nothing.
    fn run_one(&self) -> ExitCode {
        let team = ranks::team();
        let matches = self.command().try_get_matches();
        let read = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
        match read {
            // What goes wrong there goes wrong on rank 0, which says so; or it is told.
            Ok(arguments @ Arguments { command: Command::Compare(_) | Command::Ablate(_), .. })
                if !team.leads() =>
            {
                let _ = self.follow(arguments);
                ExitCode::SUCCESS
            }
            _ if !team.leads() => {
                ranks::attend(&self.registry, &team);
                ExitCode::SUCCESS
            }
            Ok(arguments) => self.follow(arguments).unwrap_or_else(|failure| {
                voice::complain(&failure.to_string());
                ExitCode::from(failure.code())
            }),
            Err(error) => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        }
    }

    /// Does what a command line says (the program's name first) inside another program: it is not ended, and signals are
    /// left to it. `host` sees how far a run is, 0 to 1, with a line on it, about ten times a second, and says whether
    /// the run is to end in order.
    ///
    /// # Errors
    /// What is wrong, and the exit code.
    pub fn run_within(
        self,
        line: impl IntoIterator<Item = OsString>,
        host: impl Fn(f64, &str) -> bool + 'static,
    ) -> Result<u8, Refusal> {
        voice::set_program(self.name);
        if let Some(error) = self.refused {
            return Err(Refusal { code: 2, sentence: error.to_string() });
        }
        let read = self.command().try_get_matches_from(line);
        let arguments = read.and_then(|matches| Arguments::from_arg_matches(&matches)).map_err(|error| {
            Refusal { code: u8::try_from(error.exit_code()).unwrap_or(2), sentence: error.to_string() }
        })?;
        let code = interrupt::within(Rc::new(host), || self.follow(arguments))
            .map_err(|failure| Refusal { code: failure.code(), sentence: failure.to_string() })?;
        Ok((0..u8::MAX).find(|&number| ExitCode::from(number) == code).unwrap_or(u8::MAX))
    }

    fn command(&self) -> clap::Command {
        Arguments::command().name(self.name).bin_name(self.name)
    }

    fn follow(&self, arguments: Arguments) -> Result<ExitCode, Failure> {
        let (registry, pictures) = (&self.registry, &self.pictures);
        match arguments.command {
            Command::Tasks(arguments) => tasks::run(registry, &arguments),
            Command::Train(arguments) => train::run(registry, pictures, &arguments),
            Command::Fit(arguments) => train::fit(registry, pictures, arguments),
            Command::Predict(arguments) => predict::run(registry, &arguments),
            Command::Resume(arguments) => train::resume(registry, pictures, &arguments),
            Command::Compare(arguments) => study::compare(registry, pictures, &arguments),
            Command::Ablate(arguments) => study::ablate(registry, pictures, &arguments),
            Command::Spectrum(arguments) => spectrum::run(registry, pictures, &arguments),
            Command::Check(arguments) => check::run(registry, &arguments),
            Command::Bench(arguments) => bench::run(registry, &arguments),
            Command::View(arguments) => view::run(registry, pictures, &arguments),
            Command::Report(arguments) => report::run(registry, pictures, &arguments),
        }
    }
}

/// Why a command line was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// The program's exit code: 0 where only help or the version was asked for, which is then the sentence.
    pub code: u8,
    /// What is wrong, where, and how to mend it.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::{Program, Refusal};

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

    #[test]
    fn inside_another_program_a_run_ends_where_the_host_says_so_and_refusals_are_values() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run").display().to_string();
        let line = |rest: &str| -> Vec<std::ffi::OsString> {
            ["hig"].into_iter().chain(rest.split(' ')).map(Into::into).collect()
        };
        let train = format!("train toy --quiet --time 60s --threads 1 --out {out}");
        assert_eq!(Program::new().run_within(line(&train), |done, _| done > 0.0), Ok(130));
        assert!(std::path::Path::new(&out).join("checkpoint.safetensors").is_file());
        let refused = |rest: &str| Program::new().run_within(line(rest), |_, _| false).unwrap_err();
        let Refusal { code, sentence } = refused("train tooy --quiet");
        assert!(code == 2 && sentence.contains("toy"), "{sentence}");
        assert_eq!(refused("--version").code, 0);
        assert_eq!(refused("train toy --no-such-option").code, 2);
    }
}
