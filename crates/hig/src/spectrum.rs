//! `hig spectrum TASK`: a run that is stopped now and then to take J apart.
//!
//! Snapshots at steps 0, 1, 4, 16, … and at the end: singular values of J, how g spreads over them, of each layer's
//! part and of the simulator's blocks alone, and the hidden units. Over the first samples of the training data.

use std::fmt::Write as _;
use std::process::ExitCode;

use halfinverse::anatomy::{Anatomy, anatomy};
use halfinverse::optimizer::StepReport;
use halfinverse::task::{Registry, Task};
use halfinverse::training::{Flow, Observer, Progress, Request, Row};

use crate::arguments::TrainArguments;
use crate::failure::Failure;
use crate::folder::{CONFIG, Folder, REPORT, SIGMAS};
use crate::picture::Pictures;
use crate::report::spectrum::{Snapshot, draw};
use crate::run::{exit_code, first_samples, say_instability, start};
use crate::view::View;
use crate::voice::{put, say};
use crate::watcher::{Watcher, broken_off};
use crate::{interrupt, memory, settings};

pub(crate) fn run(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &TrainArguments,
) -> Result<ExitCode, Failure> {
    let (task, advice) = settings::for_training(registry, arguments)?;
    // It takes J apart, however large J is.
    memory::check(&task.forecast_of_anatomy(), arguments.settings.memory_limit.as_deref(), || None)?;
    let theta = start(&task)?;
    let name = format!("spectrum-{}-{}", task.settings().task, task.settings().optimizer.name);
    let folder = Folder::create(arguments.out.as_deref(), &name)?;
    let lock = folder.lock()?;
    folder.write(CONFIG, &task.settings().to_toml())?;
    if let Some(line) = &advice {
        say(arguments.quiet, line);
    }
    say_instability(&task, arguments.quiet);
    interrupt::listen()?;
    let mut trainer = task.trainer(theta).map_err(|error| Failure::new(error.to_string()))?;
    let view = View::open(registry, pictures, &arguments.view)?;
    let watcher = Watcher::new(&task, &folder, lock, arguments.quiet)?;
    let watcher = watcher.shown_to(&task, view.as_ref(), arguments.view.tensorboard)?;
    let mut dissector = Dissector { task: &task, watcher, snapshots: Vec::new(), next: 0 };
    dissector.take(0, trainer.theta());
    write_tables(&folder, &dissector.snapshots)?;
    let reason = trainer.run(&mut dissector).map_err(|error| broken_off(error, &folder))?;
    if dissector.snapshots.last().is_some_and(|last| last.step < trainer.steps()) {
        dissector.take(trainer.steps(), trainer.theta());
    }
    dissector.watcher.finish();
    let summary = dissector.watcher.save(&task, &trainer, &reason)?;
    write_tables(&folder, &dissector.snapshots)?;
    draw(&folder, &task, &dissector.snapshots)?;
    if arguments.json {
        put(summary.json());
    }
    if let Some(last) = dissector.snapshots.last() {
        say(arguments.quiet, &closing_line(dissector.snapshots.len(), last));
    }
    say(arguments.quiet, &format!("report: {}", folder.file(REPORT).display()));
    Ok(exit_code(&reason, &task, &summary))
}

fn closing_line(count: usize, last: &Snapshot) -> String {
    format!(
        "{count} snapshots; at step {}: σ from {:.1e} down to {:.1e}, {:.0} % of |g|² on singular values below σ_max/100",
        last.step,
        last.anatomy.sigmas.first().unwrap_or(&0.0),
        last.anatomy.sigmas.last().unwrap_or(&0.0),
        100.0 * weak_share(&last.anatomy)
    )
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

struct Dissector<'a> {
    task: &'a Task,
    watcher: Watcher,
    snapshots: Vec<Snapshot>,
    /// Step of the next snapshot.
    next: u64,
}

impl Dissector<'_> {
    /// A snapshot where J is finite; elsewhere the run is about to end anyway.
    fn take(&mut self, step: u64, theta: &[f64]) {
        let taken = first_samples(self.task).and_then(|mut problem| anatomy(&mut problem, theta));
        if let Ok(anatomy) = taken {
            self.snapshots.push(Snapshot { step, anatomy });
        }
        self.next = if step == 0 { 1 } else { 4 * step };
    }
}

impl Observer for Dissector<'_> {
    fn step(&mut self, progress: &Progress<'_>, report: &StepReport) -> Flow {
        if progress.steps() == self.next {
            self.take(progress.steps(), progress.theta());
        }
        self.watcher.step(progress, report)
    }

    fn request(&mut self, progress: &Progress<'_>) -> Option<Request> {
        self.watcher.request(progress)
    }

    fn row(&mut self, progress: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.watcher.row(progress, row)
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
