//! The model of a step's time over ranks in docs/scale.md against measurement: `cargo run --release -p halfinverse --example
//! slow_network`; a minute.
//!
//! Ranks are threads. A message between two of them arrives α after its last byte has left, and leaves at β a byte, one after the
//! other. A sample is simulated asleep, so that four ranks on two cores lose nothing. W and S are measured on one rank; nothing
//! is fitted.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use halfinverse::Model;
use halfinverse::faer::{Mat, MatMut, MatRef};
use halfinverse::network::{Activation, Init, Network};
use halfinverse::objective::SquaredError;
use halfinverse::optimizer::{HalfInverseSettings, StepReport};
use halfinverse::problem::Samples;
use halfinverse::rand::SeedableRng;
use halfinverse::ranks::{Lost, Ranks, Spread, Team};
use halfinverse::simulator::{Derivative, Simulator, SimulatorError, Tape};
use halfinverse::spectral::Solver;
use halfinverse::training::{
    Cadence, Data, Flow, Observer, Options, Parts, Progress, Stage, StopSettings, Trainer,
};

/// k, b, the outcomes of a sample, and the widths of hidden layers.
const VECTORS: usize = 4;
const BATCH: usize = 64;
const OUTCOMES: usize = 4;
const HIDDEN: usize = 48;
/// Time of a sample's simulation.
const SAMPLE: Duration = Duration::from_millis(1);
/// Steps after the first one, of which the fastest counts: other programs make them longer, none shorter.
const STEPS: u64 = 8;
/// Longest wait for a message.
const DEADLINE: Duration = Duration::from_mins(1);

/// When it arrives, and what.
type Message = (Instant, Vec<f64>);

/// One rank with its lines to the others.
struct Slow {
    rank: usize,
    alpha: f64,
    beta: f64,
    to: Vec<Sender<Message>>,
    from: Vec<Mutex<Receiver<Message>>>,
    /// When the last byte that was sent so far has left.
    left: Mutex<Instant>,
}

impl Slow {
    /// So many ranks that can reach each other.
    fn all(size: usize, alpha: f64, beta: f64) -> Vec<Self> {
        let mut ranks: Vec<Self> = (0..size)
            .map(|rank| {
                let left = Mutex::new(Instant::now());
                Self { rank, alpha, beta, to: Vec::new(), from: Vec::new(), left }
            })
            .collect();
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                ranks[from].to.push(sender);
                ranks[to].from.push(Mutex::new(receiver));
            }
        }
        ranks
    }

    fn send(&self, to: usize, numbers: &[f64]) -> Result<(), Lost> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let leaves = Duration::from_secs_f64(self.beta * 8.0 * numbers.len() as f64);
        *left = (*left).max(Instant::now()) + leaves;
        let message = (*left + Duration::from_secs_f64(self.alpha), numbers.to_vec());
        self.to[to].send(message).map_err(|_| Lost::Left { rank: to })
    }

    fn receive(&self, from: usize) -> Result<Vec<f64>, Lost> {
        let line = self.from[from].lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |_| Lost::Silent { seconds: DEADLINE.as_secs() };
        let (arrives, numbers) = line.recv_timeout(DEADLINE).map_err(silent)?;
        sleep(arrives.saturating_duration_since(Instant::now()));
        Ok(numbers)
    }
}

impl Ranks for Slow {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    /// Bruck's: ⌈log₂R⌉ rounds, in each of which what is known doubles.
    fn gather(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        let (size, rank, length) = (self.size(), self.rank, own.len());
        let mut known = own.to_vec();
        let mut distance = 1;
        while distance < size {
            let count = distance.min(size - distance);
            self.send((rank + size - distance) % size, &known[..count * length])?;
            known.extend(self.receive((rank + distance) % size)?);
            distance *= 2;
        }
        for (i, part) in known.chunks_exact(length.max(1)).enumerate() {
            all[(rank + i) % size * length..][..length].copy_from_slice(part);
        }
        Ok(())
    }

    /// R − 1 rounds, in each of which a rank hears from another one.
    fn exchange(&self, own: &[f64], all: &mut [f64]) -> Result<(), Lost> {
        let (size, rank) = (self.size(), self.rank);
        let length = own.len() / size;
        let part = |rank: usize| rank * length..(rank + 1) * length;
        all[part(rank)].copy_from_slice(&own[part(rank)]);
        for shift in 1..size {
            let (to, from) = ((rank + shift) % size, (rank + size - shift) % size);
            self.send(to, &own[part(to)])?;
            all[part(from)].copy_from_slice(&self.receive(from)?);
        }
        Ok(())
    }
}

/// y = z, after so long for each sample.
struct Asleep(Duration);

impl Simulator for Asleep {
    fn controls(&self) -> usize {
        OUTCOMES
    }

    fn outcomes(&self) -> usize {
        OUTCOMES
    }

    fn simulate(
        &self,
        _: MatRef<'_, f64>,
        control: MatRef<'_, f64>,
        mut outcome: MatMut<'_, f64>,
        _: Option<&mut Tape>,
    ) -> Result<(), SimulatorError> {
        outcome.copy_from(control);
        sleep(self.0.mul_f64(control.nrows() as f64));
        Ok(())
    }

    fn derivative(&self) -> Derivative<'_> {
        Derivative::vjp(|_, cotangent, mut out| {
            out.copy_from(cotangent);
            Ok(())
        })
    }
}

/// When each step ended.
#[derive(Default)]
struct Ends(Vec<Instant>);

impl Observer for Ends {
    fn step(&mut self, _: &Progress<'_>, _: &StepReport) -> Flow {
        self.0.push(Instant::now());
        Flow::Continue
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Seconds of a step on one of the ranks, and P.
fn steps(team: Team, sample: Duration) -> Result<(f64, usize), Failure> {
    let network = Network::mlp(&[1, HIDDEN, HIDDEN, OUTCOMES], Activation::Tanh)?;
    let theta = network.initialize(Init::GlorotUniform, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
    let parameters = theta.len();
    let model = Arc::new(Model::new(network, Asleep(sample), SquaredError { factor: 1.0 })?);
    let input = Mat::from_fn(2 * BATCH, 1, |s, _| s as f64 / BATCH as f64 - 1.0);
    let target = Mat::from_fn(2 * BATCH, OUTCOMES, |s, c| (4.0 * input[(s, 0)] + c as f64).sin());
    let samples = Samples::new(input, Mat::zeros(2 * BATCH, 0), target)?;
    let spectral =
        HalfInverseSettings { solver: Solver::Krylov { vectors: VECTORS }, ..HalfInverseSettings::default() };
    let options = Options {
        stop: StopSettings { steps: Some(STEPS + 1), ..StopSettings::default() },
        cadence: Cadence { every: 1 << 20, early: false },
        ..Options::default()
    };
    let data = Data::fixed(samples.clone(), samples.first(1));
    let parts = Parts {
        source: Arc::new(Spread::new(model, team)),
        data,
        stages: vec![Stage::of(spectral, BATCH)],
        options,
    };
    let mut ends = Ends::default();
    Trainer::new(parts, theta)?.run(&mut ends)?;
    let times = ends.0.windows(2).map(|ends| (ends[1] - ends[0]).as_secs_f64());
    Ok((times.fold(f64::INFINITY, f64::min), parameters))
}

/// The same on so many ranks over such lines.
fn measured(size: usize, alpha: f64, beta: f64, sample: Duration) -> Result<(f64, usize), Failure> {
    std::thread::scope(|scope| {
        let run = |ranks: Slow| scope.spawn(move || steps(Team::new(ranks), sample));
        let threads: Vec<_> = Slow::all(size, alpha, beta).into_iter().map(run).collect();
        let ends: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect();
        ends.into_iter().next().expect("a rank or more")
    })
}

/// docs/scale.md: W/R + S, 2k + 8 frames, k + 2 sums of P numbers.
fn model(w: f64, s: f64, size: usize, alpha: f64, beta: f64, p: usize) -> f64 {
    let (r, k, p) = (size as f64, VECTORS as f64, p as f64);
    let rounds = r.log2().ceil();
    let frame = rounds * alpha + 256.0 * (r - 1.0) * beta;
    let sum = if size == 2 {
        alpha + 8.0 * p * beta
    } else {
        (r - 1.0 + rounds) * alpha + 16.0 * p * (r - 1.0) / r * beta
    };
    w / r + s + (2.0 * k + 8.0) * frame + (k + 2.0) * sum
}

fn main() -> Result<(), Failure> {
    let (alone, p) = measured(1, 0.0, 0.0, SAMPLE)?;
    let (s, _) = measured(1, 0.0, 0.0, Duration::ZERO)?;
    let w = alone - s;
    println!("krylov:{VECTORS}, b {BATCH}, P = {p}: W = {:.1} ms, S = {:.2} ms\n", 1e3 * w, 1e3 * s);
    println!("| R | α, ms | β, s/byte | model, ms | measured, ms | measured / model |");
    println!("|---|---|---|---|---|---|");
    for size in [2, 4] {
        for (alpha, beta) in
            [(1e-4, 1e-8), (1e-4, 1e-7), (1e-3, 1e-8), (1e-3, 1e-7), (1e-3, 1e-6), (1e-2, 1e-8), (1e-2, 1e-6)]
        {
            let foretold = model(w, s, size, alpha, beta, p);
            let (found, _) = measured(size, alpha, beta, SAMPLE)?;
            println!(
                "| {size} | {} | {beta:.0e} | {:.1} | {:.1} | {:.2} |",
                1e3 * alpha,
                1e3 * foretold,
                1e3 * found,
                found / foretold
            );
        }
    }
    Ok(())
}
