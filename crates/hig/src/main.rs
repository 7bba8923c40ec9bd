//! `hig`: train, compare, check, time and draw half-inverse gradient runs.

mod arguments;
mod bench;
mod check;
#[cfg(test)]
#[path = "../../halfinverse/tests/common/damage.rs"]
mod damage;
mod failure;
mod folder;
mod interrupt;
mod lists;
mod memory;
mod report;
mod settings;
mod spectrum;
mod study;
mod tasks;
mod train;
mod voice;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Tasks(arguments) => Ok(tasks::run(&arguments)),
        Command::Train(arguments) => train::run(&arguments),
        Command::Resume(arguments) => train::resume(&arguments),
        Command::Compare(arguments) => study::compare(&arguments),
        Command::Ablate(arguments) => study::ablate(&arguments),
        Command::Spectrum(arguments) => spectrum::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            voice::say(false, &format!("hig: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}
