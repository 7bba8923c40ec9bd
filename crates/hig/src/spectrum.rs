//! `hig spectrum TASK`: a run that is stopped now and then to take J apart.
//!
//! Snapshots at steps 0, 1, 4, 16, … and at the end: singular values of J, how g spreads over them, of each layer's part
//! and of the simulator's blocks alone, and the hidden units. Over the first samples of the training data.

use std::fmt::Write as _;
use std::process::ExitCode;

use halfinverse::Problem;
use halfinverse::anatomy::{Anatomy, anatomy};
use halfinverse::optimizer::StepReport;
use halfinverse::training::{Flow, Observer, Row, Trainer};

use crate::arguments::TrainArguments;
use crate::failure::Failure;
use crate::folder::{CONFIG, Folder, REPORT, SIGMAS};
use crate::train::{Watcher, broken_off, exit_code, save, start};
use crate::voice::{put, say};
use crate::{interrupt, report, settings};

/// A snapshot and the step it was taken at.
pub(crate) struct Snapshot {
    pub(crate) step: u64,
    pub(crate) anatomy: Anatomy,
}

pub(crate) fn run(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let task = settings::for_training(arguments)?;
    let theta = start(&task)?;
    let name = format!("spectrum-{}-{}", task.settings().task, task.settings().optimizer.name());
    let folder = Folder::create(arguments.out.as_deref(), &name)?;
    let lock = folder.lock()?;
    folder.write(CONFIG, &settings::to_toml(task.settings()))?;
    interrupt::listen()?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let mut trainer = Trainer::new(&task, theta).map_err(|error| failed(&error))?;
    let mut dissector = Dissector {
        watcher: Watcher::new(&task, &folder, lock, arguments.quiet)?,
        snapshots: Vec::new(),
        next: 0,
    };
    dissector.take(&trainer);
    write_tables(&folder, &dissector.snapshots)?;
    let reason = trainer.run(&mut dissector).map_err(|error| broken_off(error, &folder))?;
    if dissector.snapshots.last().is_some_and(|last| last.step < trainer.steps()) {
        dissector.take(&trainer);
    }
    dissector.watcher.finish();
    let summary = save(&mut trainer, &mut dissector.watcher, &reason)?;
    write_tables(&folder, &dissector.snapshots)?;
    report::spectrum::draw(&folder, &task, &dissector.snapshots)?;
    if arguments.json {
        put(summary.json());
    }
    if let Some(last) = dissector.snapshots.last() {
        let weak = weak_share(&last.anatomy);
        say(
            arguments.quiet,
            &format!(
                "{} snapshots; at step {}: σ from {:.1e} down to {:.1e}, {:.0} % of |g|² on singular values below σ_max/100",
                dissector.snapshots.len(),
                last.step,
                last.anatomy.sigmas.first().unwrap_or(&0.0),
                last.anatomy.sigmas.last().unwrap_or(&0.0),
                100.0 * weak
            ),
        );
    }
    say(arguments.quiet, &format!("report: {}", folder.file(REPORT).display()));
    Ok(exit_code(&reason, trainer.task().settings(), &summary))
}

/// Share of |g|² on singular values below a hundredth of the largest.
fn weak_share(anatomy: &Anatomy) -> f64 {
    let cut = anatomy.sigmas.first().unwrap_or(&0.0) / 100.0;
    anatomy
        .sigmas
        .iter()
        .zip(&anatomy.shares)
        .filter(|(sigma, _)| **sigma < cut)
        .map(|(_, share)| share)
        .sum()
}

struct Dissector {
    watcher: Watcher,
    snapshots: Vec<Snapshot>,
    next: u64,
}

impl Dissector {
    /// A snapshot where J is finite; elsewhere the run is about to end anyway.
    fn take(&mut self, trainer: &Trainer) {
        let task = trainer.task();
        let samples = task.train().first(task.spectrum_samples());
        let taken = Problem::new(task.model(), samples, 1)
            .map_err(halfinverse::StepError::from)
            .and_then(|mut problem| anatomy(&mut problem, trainer.theta()));
        if let Ok(anatomy) = taken {
            self.snapshots.push(Snapshot { step: trainer.steps(), anatomy });
        }
        self.next = if trainer.steps() == 0 { 1 } else { 4 * trainer.steps() };
    }
}

impl Observer for Dissector {
    fn step(&mut self, trainer: &mut Trainer, report: &StepReport) -> Flow {
        if trainer.steps() == self.next {
            self.take(trainer);
        }
        self.watcher.step(trainer, report)
    }

    fn row(&mut self, trainer: &mut Trainer, row: &Row) -> std::io::Result<()> {
        self.watcher.row(trainer, row)
    }
}

/// `sigmas.csv`, `layers.csv`, `blocks.csv`, `units.csv`.
fn write_tables(folder: &Folder, snapshots: &[Snapshot]) -> Result<(), Failure> {
    let mut sigmas = String::from("step,index,sigma,share_of_g\n");
    let mut layers = String::from("step,layer,index,sigma\n");
    let mut blocks = String::from("step,sample,index,sigma\n");
    let mut units = String::from("step,layer,mean,deviation,saturated,dead\n");
    for Snapshot { step, anatomy } in snapshots {
        for (i, (sigma, share)) in anatomy.sigmas.iter().zip(&anatomy.shares).enumerate() {
            let _ = writeln!(sigmas, "{step},{},{sigma:e},{share:e}", i + 1);
        }
        for (table, lists) in [(&mut layers, &anatomy.layers), (&mut blocks, &anatomy.blocks)] {
            for (l, list) in lists.iter().enumerate() {
                for (i, sigma) in list.iter().enumerate() {
                    let _ = writeln!(table, "{step},{},{},{sigma:e}", l + 1, i + 1);
                }
            }
        }
        for (l, layer) in anatomy.units.iter().enumerate() {
            let _ = writeln!(
                units,
                "{step},{},{:e},{:e},{},{}",
                l + 1,
                layer.mean,
                layer.deviation,
                layer.saturated,
                layer.dead
            );
        }
    }
    for (name, text) in
        [(SIGMAS, sigmas), ("layers.csv", layers), ("blocks.csv", blocks), ("units.csv", units)]
    {
        folder.write(name, &text)?;
    }
    Ok(())
}
