//! The command line, as it is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::view::PORT;

/// Train networks through physics simulators with half-inverse gradients.
#[derive(Debug, Parser)]
#[command(name = "hig", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What can be trained, with its settings
    Tasks(TasksArguments),
    /// One training run, with a report
    Train(TrainArguments),
    /// Fit a network to the columns of a data file
    Fit(FitArguments),
    /// What a fitted network says of each row of a data file
    Predict(PredictArguments),
    /// Resume a run from its checkpoint, as if it had not been stopped
    Resume(ResumeArguments),
    /// Several optimizers under one budget: one table, one picture
    Compare(CompareArguments),
    /// One setting varied
    Ablate(AblateArguments),
    /// A run, with singular values, layers, simulator and hidden units looked at on the way
    Spectrum(TrainArguments),
    /// Every derivative of a task against finite differences
    Check(CheckArguments),
    /// Milliseconds per part of a step, and memory
    Bench(BenchArguments),
    /// Runs and studies in the browser, as their folders grow
    View(FolderViewArguments),
    /// Draw the reports of finished runs again
    Report(ReportArguments),
}

#[derive(Debug, Args)]
pub(crate) struct TasksArguments {
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// The JSON Schema of task files on stdout
    #[arg(long, conflicts_with = "json")]
    pub(crate) schema: bool,
}

/// Where settings come from; shared by all commands that need a task.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct SettingArguments {
    /// The task's name, or a task file (TASK.toml); may be left out with --config
    pub(crate) task: Option<String>,
    /// An optimizer (`hig tasks` lists them), or several in turn: adam:2000,hig
    #[arg(long, value_name = "NAME")]
    pub(crate) optimizer: Option<String>,
    /// Samples per mini-batch
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) batch: Option<String>,
    /// Learning rate
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) lr: Option<String>,
    /// Exponent of the inverted singular values, -1 to 1
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) kappa: Option<String>,
    /// Singular values at or below X times the largest are dropped
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) truncation: Option<String>,
    /// svd, gram, krylov:K or auto
    #[arg(long, value_name = "NAME")]
    pub(crate) solver: Option<String>,
    /// Seed of initial weights and shuffling
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) seed: Option<String>,
    /// Threads, at most as many as there are cores; 0 for all of them
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) threads: Option<String>,
    /// What is done about a step that fails or a loss that blows up: stop, roll-back or skip
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_fault: Option<String>,
    /// Refuse what needs more memory: 4GiB, 500MB; default: 80 % of what is free
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_limit: Option<String>,
    /// Settings from a TOML file, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Any setting by its dotted name, such as simulator.masses=5; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Who looks on while a run trains.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ViewArguments {
    /// Show and control the run in the browser while it trains, at 127.0.0.1:PORT; default: 8800, or the next free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = PORT)]
    pub(crate) view: Option<String>,
    /// Let other machines open the view too: the address to listen at, such as 0.0.0.0; the link then has a token
    #[arg(long, value_name = "HOST", requires = "view")]
    pub(crate) view_host: Option<String>,
    /// Write the rows for TensorBoard too, into the run's folder
    #[arg(long)]
    pub(crate) tensorboard: bool,
}

/// When a run ends: at the first of these.
#[derive(Debug, Args)]
pub(crate) struct BudgetArguments {
    /// Stop after so many steps
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) steps: Option<String>,
    /// Stop after so many passes through the training data
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) epochs: Option<String>,
    /// Stop after so much training time: 30s, 500ms, 5m, 1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) time: Option<String>,
    /// Stop at this test loss
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) target_loss: Option<String>,
    /// Stop after so many evaluations in a row without a new lowest test loss
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) patience: Option<String>,
}

/// What `compare` and `ablate` share.
#[derive(Debug, Args)]
pub(crate) struct StudyArguments {
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
    #[command(flatten)]
    pub(crate) view: ViewArguments,
    /// Seeds of the runs: 1,2,3 or 1..5
    #[arg(long, value_name = "LIST", default_value = "1,2,3")]
    pub(crate) seeds: String,
    /// Losses whose times are reported; default: powers of ten
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub(crate) targets: Option<String>,
    /// Folder of the study; default: one named after all that was asked for. The same command goes on where it was
    /// stopped
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(long)]
    pub(crate) quiet: bool,
    /// The table as one JSON object on stdout, instead of Markdown
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) study: StudyArguments,
    /// Optimizers, each with its task's defaults; one after the other as in adam:500+hig
    #[arg(long, value_name = "LIST", default_value = "hig,adam,gn")]
    pub(crate) optimizers: String,
    /// Learning rates to choose from by validation loss, the same way for all: 1e-3,1e-2, or x0.3,x1,x3 times the
    /// default
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub(crate) lr_grid: Option<String>,
    /// Training time of each run that a learning rate is chosen by; default: that of the comparison
    #[arg(long, value_name = "TIME", requires = "lr_grid", allow_hyphen_values = true)]
    pub(crate) grid_time: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AblateArguments {
    #[command(flatten)]
    pub(crate) study: StudyArguments,
    /// kappa, truncation, batch, lr, krylov, depth, width or any setting, with its values: kappa=0,0.5,1
    #[arg(long, value_name = "KEY=LIST", allow_hyphen_values = true)]
    pub(crate) vary: String,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    #[command(flatten)]
    pub(crate) budget: BudgetArguments,
    #[command(flatten)]
    pub(crate) view: ViewArguments,
    /// Start from the parameters of a checkpoint, of a run's folder, or of its best.safetensors
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) from: Option<PathBuf>,
    /// Folder for the run's files; default: the next free runs/TASK-OPTIMIZER-N
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(long)]
    pub(crate) quiet: bool,
    /// The summary as one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// A data file and its columns. Columns are named by their names, by their numbers from 1 on, or by ranges such as 2-5.
#[derive(Debug, Args)]
pub(crate) struct FitArguments {
    /// Text with a line for each sample (.csv and the like), .npy, .npz or .safetensors
    pub(crate) data: PathBuf,
    /// Input columns: a,b or 1-3 or the name of an array; default: all that are no targets
    #[arg(long, value_name = "LIST")]
    pub(crate) inputs: Option<String>,
    /// Target columns; default: the last one
    #[arg(long, value_name = "LIST")]
    pub(crate) targets: Option<String>,
    /// The column that holds each row's weight in the loss: positive numbers or 0
    #[arg(long, value_name = "COLUMN")]
    pub(crate) weights: Option<String>,
    /// A file with test samples, in place of a part of the data
    #[arg(long, value_name = "FILE")]
    pub(crate) test: Option<PathBuf>,
    /// Part of the rows that are kept for testing; default: 0.1
    #[arg(long, value_name = "X", conflicts_with = "test", allow_hyphen_values = true)]
    pub(crate) test_share: Option<String>,
    /// What is done about rows that lack a value: refuse or drop
    #[arg(long, value_name = "WORD")]
    pub(crate) missing: Option<String>,
    /// Whether the first line holds names: yes, no or auto
    #[arg(long, value_name = "WORD")]
    pub(crate) header: Option<String>,
    #[command(flatten)]
    pub(crate) train: TrainArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArguments {
    /// The folder of a run of fit, or its best.safetensors
    pub(crate) model: PathBuf,
    /// A data file that has the input columns, in any order; with the targets too, errors are told
    pub(crate) data: PathBuf,
    /// Where predictions go, as .csv or .npy; default: stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The parameters of the run's end, in place of those with the lowest test loss
    #[arg(long)]
    pub(crate) last: bool,
    /// What is done about rows that lack a value: refuse or drop
    #[arg(long, value_name = "WORD")]
    pub(crate) missing: Option<String>,
    /// Whether the first line holds names: yes, no or auto
    #[arg(long, value_name = "WORD")]
    pub(crate) header: Option<String>,
    /// Say nothing but errors
    #[arg(long)]
    pub(crate) quiet: bool,
    /// How far predictions are off, as one JSON object on stdout
    #[arg(long, requires = "out")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    pub(crate) settings: SettingArguments,
    /// Repetitions of each part; the median is reported
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(crate) repeats: usize,
    /// One JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FolderViewArguments {
    /// Folders of runs or studies
    #[arg(required = true)]
    pub(crate) folders: Vec<PathBuf>,
    /// Where the browser finds it, at 127.0.0.1; if taken, the next free port
    #[arg(long, value_name = "PORT", default_value = PORT)]
    pub(crate) port: String,
    /// Let other machines open the view too: the address to listen at, such as 0.0.0.0; the link then has a token
    #[arg(long, value_name = "HOST")]
    pub(crate) view_host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Folders of runs
    #[arg(required = true)]
    pub(crate) folders: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// The run's folder
    pub(crate) folder: PathBuf,
    /// Stop after so many steps, instead of where the run was to stop
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<String>,
    /// Stop after so many passes through the training data
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<String>,
    /// Stop after so much training, such as 30s or 10min
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// What is done from here on about a step that fails or a loss that blows up: stop, roll-back or skip
    #[arg(long, value_name = "POLICY")]
    pub(crate) on_fault: Option<String>,
    /// Refuse what needs more memory: 4GiB, 500MB; default: 80 % of what is free
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_limit: Option<String>,
    #[command(flatten)]
    pub(crate) view: ViewArguments,
    /// No progress, no closing words
    #[arg(long)]
    pub(crate) quiet: bool,
    /// The summary as JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}
