//! A change of units changes numbers, not progress.

use halfinverse::task::{Registry, Settings, Task};
use halfinverse::training::{Flow, Observer, Progress, Row, Trainer};

/// Test losses.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, _: &Progress<'_>, _: &halfinverse::optimizer::StepReport) -> Flow {
        Flow::Continue
    }

    fn row(&mut self, _: &Progress<'_>, row: &Row) -> std::io::Result<()> {
        self.0.push(row.test_loss);
        Ok(())
    }
}

/// A short run on a grid of that spacing: outcomes have the unit dx⁻², losses dx⁻⁴.
fn poisson(optimizer: &str, dx: f64, rate: Option<f64>) -> Settings {
    let mut settings = Registry::standard().settings("poisson", optimizer).unwrap();
    let simulator = &mut settings.simulator.settings;
    simulator.insert("dx".to_owned(), dx.into());
    simulator.insert("width".to_owned(), 6.into());
    simulator.insert("height".to_owned(), 5.into());
    settings.network.hidden = vec![16];
    (settings.data.train, settings.data.test) = (64, 32);
    (settings.training.batch, settings.training.threads) = (16, 1);
    settings.stop.time = None;
    settings.stop.steps = Some(20);
    if let Some(rate) = rate {
        settings.optimizer.settings.insert("rate".to_owned(), "model".into());
        // As on the whole grid. An exact solver has singular values at the truncation, which round-off moves across it.
        settings.optimizer.settings.insert("solver".to_owned(), "krylov:32".into());
        settings.optimizer.set_learning_rate(rate);
    }
    settings
}

fn run(settings: Settings) -> (Trainer, Vec<f64>) {
    let mut trainer = Task::new(settings).unwrap().trainer(None).unwrap();
    let mut losses = Losses::default();
    trainer.run(&mut losses).unwrap();
    (trainer, losses.0)
}

#[test]
fn progress_does_not_depend_on_the_unit_of_length() {
    for (optimizer, rate) in [("hig-auto", None), ("lm", None), ("hig", Some(0.3)), ("gn", Some(0.1))] {
        let relative = |dx: f64| {
            let (trainer, losses) = run(poisson(optimizer, dx, rate));
            assert_eq!(trainer.notices(), [], "{optimizer}, dx = {dx:e}");
            losses.iter().map(|loss| loss / losses[0]).collect::<Vec<f64>>()
        };
        let usual = relative(1.0);
        let last = *usual.last().unwrap();
        assert!(last < 0.7, "{optimizer} gets somewhere: {last}");
        for dx in [1e-6, 1e3] {
            let other = relative(dx);
            assert_eq!(usual.len(), other.len());
            for (row, (a, b)) in usual.iter().zip(&other).enumerate() {
                assert!((a / b - 1.0).abs() < 1e-3, "{optimizer}, dx = {dx:e}, row {row}: {a} and {b}");
            }
        }
    }
}

#[test]
fn a_fixed_rate_in_other_units_is_told_and_the_mend_is_named_where_there_is_one() {
    for (optimizer, mend) in [("hig", true), ("sgd", false)] {
        let (trainer, _) = run(poisson(optimizer, 1e-6, None));
        let said: Vec<String> = trainer.notices().iter().map(ToString::to_string).collect();
        let of_rate =
            said.iter().find(|said| said.contains("is too high for this problem")).expect(optimizer);
        assert_eq!(of_rate.contains("--set optimizer.rate=model"), mend, "{of_rate}");
    }
}

#[test]
fn the_network_sees_the_same_numbers_at_every_spacing() {
    let task = |dx| Task::new(poisson("adam", dx, None)).unwrap();
    let (usual, fine) = (task(1.0), task(0.5));
    assert_eq!(usual.train().input, usual.train().target);
    assert_eq!(usual.train().input, fine.train().input);
    assert_eq!(fine.train().target, faer::Scale(4.0) * &usual.train().target);
}
