//! Convolutions, U-Nets and the other layers from task files: they train with every optimizer, go on after a kill, and
//! settings that do not fit are refused by their names.

#[path = "common/killer.rs"]
mod killer;

use std::path::PathBuf;

use halfinverse::task::{Forecast, Part, Registry, Settings, Task};
use halfinverse::training::{StopReason, StopSettings, resume, write_checkpoint};
use halfinverse::{SettingError, check};
use toml::{Table, Value};

use killer::Killer;

/// 8 × 8 cells, one channel in and one out.
const U_NET: &str = r#"
hidden = []
head = false
layers = [
    { kind = "convolution", shape = [8, 8], channels = 2 },
    { kind = "layer-norm", channels = 2 },
    { kind = "activation", function = "tanh" },
    { kind = "concatenation", layers = [
        { kind = "pooling", shape = [8, 8] },
        { kind = "convolution", shape = [4, 4], channels = 3, padding = "periodic" },
        { kind = "activation", function = "tanh" },
        { kind = "up-sampling", shape = [4, 4] },
    ] },
    { kind = "linear-skip", layers = [{ kind = "convolution", shape = [8, 8], channels = 1 }] },
]
"#;

/// Every other kind, and a dense layer at the end.
const LINE: &str = r#"
hidden = []
layers = [
    { kind = "convolution", shape = [64], channels = 2, kernel = 4, stride = 3, padding = "none", bias = false },
    { kind = "fourier-features", frequencies = 8, scale = 0.1, seed = 5 },
    { kind = "residual", layers = [{ kind = "dense", width = 16 }, { kind = "layer-norm" }] },
]
"#;

/// The task of Poisson's equation with this network.
fn settings(network: &str, optimizer: &str) -> Result<Settings, SettingError> {
    let registry = Registry::standard();
    let network: Table = network.parse().expect("TOML");
    let over = Table::from_iter([("network".to_owned(), Value::Table(network))]);
    let mut settings =
        registry.overlaid(&registry.defaults(&registry.file("poisson")?, optimizer)?, &over)?;
    (settings.data.train, settings.data.test) = (64, 16);
    (settings.training.batch, settings.training.threads, settings.training.evaluate_every) = (4, 1, 10);
    settings.stop = StopSettings { steps: Some(20), ..StopSettings::default() };
    Ok(settings)
}

fn refusal(network: &str) -> String {
    match settings(network, "hig").and_then(Task::new) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn settings_that_do_not_fit_are_refused_by_their_names() {
    let conv = r#"kind = "convolution""#;
    for (layer, words) in [
        (conv.to_owned(), "`network.layers.0.shape` is absent, but must be [length] or [height, width]"),
        (
            format!("{conv}, shape = [2, 4, 8]"),
            "`network.layers.0.shape` is [2, 4, 8], but must be [length] or",
        ),
        (
            format!("{conv}, shape = [7, 8]"),
            "`network.layers.0.shape` is [7, 8], but must be one with a number of positions that divides the 64 features",
        ),
        (format!("{conv}, shape = [0]"), "`network.layers.0.shape` is [0]"),
        (
            format!("{conv}, shape = [9223372036854775807, 3]"),
            "`network.layers.0.shape` is [9223372036854775807, 3]",
        ),
        (
            format!("{conv}, shape = [8, 8], channels = 0"),
            "`network.layers.0.channels` is 0, but must be at least 1",
        ),
        (
            format!("{conv}, shape = [8, 8], channels = 9223372036854775807"),
            "`network.layers.0.channels` is 9223372036854775807, but must be few enough",
        ),
        (
            format!("{conv}, shape = [8, 8], kernel = 0"),
            "`network.layers.0.kernel` is 0, but must be at least 1",
        ),
        (
            format!("{conv}, shape = [8, 8], kernel = 9"),
            "`network.layers.0.kernel` is 9, but must be no longer than the input, whose shape is [8, 8]",
        ),
        (
            format!("{conv}, shape = [4, 8], kernel = [5, 3]"),
            "`network.layers.0.kernel` is [5, 3], but must be no longer than the input",
        ),
        (
            format!("{conv}, shape = [64], kernel = [3, 3]"),
            "`network.layers.0.kernel` is [3, 3], but must be one number, as in shape = [64]",
        ),
        (
            format!("{conv}, shape = [8, 8], kernel = [3]"),
            "`network.layers.0.kernel` is [3], but must be two numbers, as in shape = [8, 8]",
        ),
        (format!("{conv}, shape = [8, 8], kernel = 2.5"), "`network.layers.0.kernel`"),
        (
            format!("{conv}, shape = [8, 8], stride = 0"),
            "`network.layers.0.stride` is 0, but must be at least 1",
        ),
        (
            format!("{conv}, shape = [8, 8], stride = [1, 0]"),
            "`network.layers.0.stride` is [1, 0], but must be at least 1",
        ),
        (format!("{conv}, shape = [8, 8], padding = 'same'"), "`network.layers.0.padding`"),
        (format!("{conv}, shape = [8, 8], pading = 'zero'"), "did you mean `network.layers.0.padding`?"),
        (format!("{conv}, shape = [8, 8], bias = 1"), "`network.layers.0.bias`"),
        (
            "kind = 'pooling', shape = [8, 8], factor = 3".to_owned(),
            "`network.layers.0.factor` is 3, but must be a divisor of the input's shape [8, 8]",
        ),
        (
            "kind = 'pooling', shape = [8, 8], factor = [2, 0]".to_owned(),
            "`network.layers.0.factor` is [2, 0], but must be at least 1",
        ),
        ("kind = 'up-sampling', shape = [5]".to_owned(), "`network.layers.0.shape` is [5]"),
        (
            "kind = 'up-sampling', shape = [8, 8], factor = 9223372036854775807".to_owned(),
            "`network.layers.0.factor` is 9223372036854775807, but must be small enough",
        ),
        (
            "kind = 'layer-norm', channels = 5".to_owned(),
            "`network.layers.0.channels` is 5, but must be 0 or a divisor of the 64 features",
        ),
        (
            "kind = 'layer-norm', epsilon = 0".to_owned(),
            "`network.layers.0.epsilon` is 0, but must be positive and finite",
        ),
        (
            "kind = 'fourier-features', frequencies = 0".to_owned(),
            "`network.layers.0.frequencies` is 0, but must be from 1 to",
        ),
        (
            "kind = 'fourier-features', scale = -1".to_owned(),
            "`network.layers.0.scale` is -1, but must be positive and finite",
        ),
        (
            "kind = 'linear-skip'".to_owned(),
            "`network.layers.0.layers` does not fit: a network needs a layer",
        ),
        (
            "kind = 'concatenation', layers = [{ kind = 'pooling', shape = [3] }]".to_owned(),
            "`network.layers.0.layers.0.shape` is [3]",
        ),
    ] {
        let said = refusal(&format!("hidden = []\nlayers = [{{ {layer} }}]"));
        assert!(said.contains(words), "{layer}: {said}");
    }
    let said = refusal("hidden = []\nlayers = [{ kind = 'dense', width = 1 }, { kind = 'layer-norm' }]");
    assert!(said.contains("a layer norm needs at least 2 features, and its input has 1"), "{said}");
}

#[test]
fn a_network_without_a_head_must_end_in_the_controls() {
    let said = refusal("hidden = []\nhead = false\nlayers = [{ kind = 'dense', width = 20 }]");
    let words =
        "`network.layers` does not fit: the last layer has 20 outputs, and the simulator takes 64 controls";
    assert!(said.contains(words), "{said}");
    let said = refusal("head = false");
    assert!(said.contains("`network.head` is false, but must be true where"), "{said}");
    let task = Task::new(settings(U_NET, "hig").unwrap()).unwrap();
    let shapes: Vec<_> = task.model().network().tensors().into_iter().map(|tensor| tensor.shape).collect();
    assert_eq!(shapes.last().unwrap(), &[1]);
    assert_eq!(shapes[shapes.len() - 3], [64, 320], "the linear skip's");
    let with_head = Task::new(settings(&U_NET.replace("head = false", ""), "hig").unwrap()).unwrap();
    assert_eq!(with_head.model().network().parameters(), task.model().network().parameters() + 64 * 65);
}

#[test]
fn a_settings_file_without_a_head_is_read_back() {
    let settings = settings(U_NET, "hig").unwrap();
    let file: Table = settings.to_toml().parse().unwrap();
    let registry = Registry::standard();
    let again = registry.overlaid(&registry.defaults(&file, "hig").unwrap(), &file).unwrap();
    assert_eq!(again, settings);
}

#[test]
fn the_u_net_of_the_documentation_is_one() {
    let page = include_str!("../../../docs/own.md");
    let start = page.find("# u-net.toml").expect("the example");
    let file: Table = page[start..].split("```").next().unwrap().parse().unwrap();
    let registry = Registry::standard();
    let all = registry.defaults(&registry.file("poisson").unwrap(), "hig-auto").unwrap();
    let task = Task::new(registry.overlaid(&all, &file).unwrap()).unwrap();
    let shapes: Vec<_> = task.model().network().tensors().into_iter().map(|tensor| tensor.shape).collect();
    let expected: [&[usize]; 6] = [&[8, 1, 3, 3], &[8], &[16, 8, 3, 3], &[16], &[1, 24, 3, 3], &[1]];
    assert_eq!(shapes, expected);
}

#[test]
fn the_schema_knows_every_kind_with_its_settings() {
    let schema = Registry::standard().schema().clone();
    let kinds = schema["properties"]["network"]["properties"]["layers"]["items"]["oneOf"].as_array().unwrap();
    for (kind, setting) in [
        ("convolution", "stride"),
        ("pooling", "factor"),
        ("up-sampling", "factor"),
        ("layer-norm", "epsilon"),
        ("fourier-features", "seed"),
        ("linear-skip", "layers"),
        ("concatenation", "layers"),
    ] {
        let found = kinds.iter().find(|of| of["properties"]["kind"]["const"] == kind).expect(kind);
        assert!(found["properties"][setting]["description"].is_string(), "{kind}: {found}");
    }
}

#[test]
fn every_optimizer_trains_them() {
    for network in [U_NET, LINE] {
        for (optimizer, solver) in [
            ("hig-auto", None),
            ("hig", Some("krylov:8")),
            ("hig", Some("gram")),
            ("hig", Some("svd")),
            ("lm", None),
            ("l-bfgs", None),
            ("adam", None),
            ("sip", None),
            ("soap", None),
            ("muon", None),
            ("hig-kron", None),
        ] {
            let mut settings = settings(network, optimizer).unwrap();
            if let Some(solver) = solver {
                settings.optimizer.settings.insert("solver".to_owned(), Value::from(solver));
            }
            let task = Task::new(settings).unwrap();
            let mut trainer = task.trainer(None).unwrap();
            let before = task.trainer(None).unwrap().test_loss();
            assert!(matches!(trainer.run(&mut ()).unwrap(), StopReason::Steps));
            let after = trainer.test_loss();
            assert!(after < before, "{optimizer} {solver:?}: {before} to {after}");
        }
    }
}

#[test]
fn check_finds_their_derivatives_right() {
    for network in [U_NET, LINE] {
        let task = Task::new(settings(network, "hig").unwrap()).unwrap();
        let samples = task.train().first(3);
        let mut problem = halfinverse::NetworkProblem::new(task.model(), samples, 1).unwrap();
        let comparisons = check::model(&mut problem, &task.initial_parameters(), 1).unwrap();
        let wrong: Vec<_> = comparisons.iter().filter(|of| !of.right()).map(|of| of.what).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_run_goes_on_after_a_kill_bit_for_bit_random_features_included() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("layers");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, network) in [("u-net", U_NET), ("line", LINE)] {
        for optimizer in ["hig", "hig-kron", "soap", "muon", "adam"] {
            let [never, killed, again] =
                ["never", "killed", "again"].map(|end| folder.join(format!("{name} {optimizer} {end}")));
            // Made anew each time, as another process would.
            let task = || Task::new(settings(network, optimizer).unwrap()).unwrap();
            let mut whole = task().trainer(None).unwrap();
            whole.run(&mut ()).unwrap();
            write_checkpoint(&whole, &never).unwrap();
            task().trainer(None).unwrap().run(&mut Killer(7, killed.clone())).unwrap();
            let mut rest = resume(&task().parts(), &killed).unwrap();
            rest.run(&mut ()).unwrap();
            write_checkpoint(&rest, &again).unwrap();
            let read = |path| std::fs::read(path).unwrap();
            assert!(read(&never) == read(&again) && read(&never) != read(&killed), "{name} {optimizer}");
        }
    }
}

#[test]
fn the_forecast_counts_what_layers_inside_others_keep() {
    let mini_batch = |network: &str| {
        let settings = settings(network, "adam").unwrap();
        let forecast = Forecast::new(&settings, &Registry::standard()).unwrap();
        forecast.parts.iter().find(|part| part.0 == Part::MiniBatch).unwrap().1
    };
    let concatenation = |channels: usize| {
        format!(
            "hidden = []\nlayers = [{{ kind = 'concatenation', layers = [{{ kind = 'convolution', shape = [8, 8], channels = {channels} }}, {{ kind = 'pooling', shape = [8, 8], factor = 8 }}] }}]"
        )
    };
    // 4 samples of 64 positions in 30 more channels, 8 bytes each, on their way there and back.
    let more = mini_batch(&concatenation(40)) - mini_batch(&concatenation(10));
    assert!(more >= 2 * 8 * 4 * 64 * 30, "{more}");
}
