//! The runs that are shown: those of this process, and those in folders.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halfinverse::task::{Registry, Task};
use serde::Serialize;

use super::live::{Control, Link, lock};
use super::paint::{Painter, paint};
use super::shown::{Shown, State};
use crate::folder::{CELLS, CONFIG, METRICS, PLAN, peak_rss_bytes, rss_bytes};
use crate::picture::Pictures;
use crate::{ranks, settings};

/// Between two looks into the folders, at least.
const EVERY: Duration = Duration::from_millis(200);

/// All runs, in the order in which they came.
pub(super) struct Hub {
    runs: Mutex<Vec<Arc<Shown>>>,
    /// Folders of studies, whose cells come and go.
    studies: Mutex<Vec<PathBuf>>,
    looked: Mutex<Option<Instant>>,
    registry: Registry,
    pictures: Pictures,
    /// Processes that train as one.
    ranks: usize,
    /// Whether runs of this process are shown.
    own: AtomicBool,
    /// No more events: this process ends.
    pub(super) closing: AtomicBool,
    pub(super) streams: AtomicUsize,
}

/// What the page shows besides curves.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Overview {
    /// Another program may answer at the same port later, and its runs are others.
    process: u32,
    runs: Vec<State>,
    /// Memory of the process that trains; none where it is another one.
    memory: Option<u64>,
    peak: Option<u64>,
    ranks: usize,
}

impl Hub {
    pub(super) fn new(registry: &Registry, pictures: &Pictures) -> Self {
        Self {
            runs: Mutex::default(),
            studies: Mutex::default(),
            looked: Mutex::default(),
            registry: registry.clone(),
            pictures: pictures.clone(),
            ranks: ranks::team().size(),
            own: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        }
    }

    /// Shows a folder: of a run or of a study. False where it is neither.
    pub(super) fn add(&self, path: &Path) -> bool {
        if path.join(PLAN).is_file() || path.join(CELLS).is_dir() {
            lock(&self.studies).push(path.to_owned());
            return true;
        }
        let run = path.join(CONFIG).is_file() || path.join(METRICS).is_file();
        if run {
            self.shown(path, path.display().to_string());
        }
        run
    }

    /// The run in a folder, new or known.
    fn shown(&self, path: &Path, name: String) -> Arc<Shown> {
        let mut runs = lock(&self.runs);
        if let Some(shown) = runs.iter().find(|shown| shown.folder.path() == path) {
            return shown.clone();
        }
        let shown = Arc::new(Shown::new(path, name));
        runs.push(shown.clone());
        shown
    }

    /// A run of this process begins.
    pub(super) fn begin(&self, path: &Path, name: String, task: &Task) -> Link {
        self.own.store(true, Relaxed);
        let shown = self.shown(path, name);
        shown.canvas.equip(Painter::new(task.clone(), self.pictures.of(task)));
        Link::new(shown)
    }

    pub(super) fn run(&self, id: usize) -> Option<Arc<Shown>> {
        lock(&self.runs).get(id).cloned()
    }

    /// Looks into the folders, unless that was just done.
    pub(super) fn refresh(&self) {
        {
            let mut looked = lock(&self.looked);
            if looked.is_some_and(|looked| looked.elapsed() < EVERY) {
                return;
            }
            *looked = Some(Instant::now());
        }
        for study in lock(&self.studies).iter() {
            let Ok(cells) = std::fs::read_dir(study.join(CELLS)) else { continue };
            let mut cells: Vec<PathBuf> = cells.flatten().map(|entry| entry.path()).collect();
            cells.retain(|cell| cell.join(CONFIG).is_file());
            cells.sort();
            for cell in cells {
                let name = cell.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.shown(&cell, name);
            }
        }
        let runs = lock(&self.runs).clone();
        for shown in runs {
            shown.refresh();
        }
    }

    pub(super) fn overview(&self) -> Overview {
        let runs = lock(&self.runs).clone();
        let own = self.own.load(Relaxed);
        Overview {
            process: std::process::id(),
            runs: runs.iter().enumerate().map(|(id, shown)| shown.state(id)).collect(),
            memory: rss_bytes().filter(|_| own),
            peak: peak_rss_bytes().filter(|_| own),
            ranks: self.ranks,
        }
    }

    /// Somebody looks at a run's picture.
    pub(super) fn paint(self: &Arc<Self>, id: usize) {
        let Some(shown) = self.run(id) else { return };
        // A painter holds its run's data. That of a run at work is the run's own.
        for other in lock(&self.runs).iter().filter(|other| !Arc::ptr_eq(other, &shown)) {
            if other.live().is_none() {
                other.canvas.equip(None);
            }
        }
        let (hub, config) = (self.clone(), shown.folder.file(CONFIG));
        paint(&shown, move || {
            let settings = settings::from_file(&hub.registry, &config, None).ok()?;
            let task = Task::with(settings, &hub.registry).ok()?;
            let picture = hub.pictures.of(&task);
            Painter::new(task, picture)
        });
    }

    /// Passes a control on to its run; why not, otherwise.
    pub(super) fn control(&self, id: usize, control: Control) -> Result<(), &'static str> {
        let shown = self.run(id).ok_or("there is no such run")?;
        let live = shown.live().ok_or("this run is not at work in this process, and takes no controls")?;
        if live.ask(control) { Ok(()) } else { Err("the run has not come to what was asked before") }
    }
}
