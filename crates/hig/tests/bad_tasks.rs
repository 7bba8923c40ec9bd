//! Bad task files: each is refused in one sentence that says where to mend what, before any folder is made.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A file, and words of what is said of it.
type Case = (&'static [u8], &'static [&'static str]);

#[rustfmt::skip]
const REFUSED: &[Case] = &[
    (b"task = \n", &["bad.toml, line 1, column 8", "string values must be quoted, expected literal string"]),
    (b"task = \"oscillators\n", &["bad.toml, line 1, column 20", "invalid basic string, expected `\"`"]),
    (b"task = \"oscillators\"\n[optimizer\nkappa = 1\n", &["bad.toml, line 2, column 11", "unclosed table, expected `]`"]),
    (b"task = \"oscillators\"\n[optimizer]\nkappa = = 2\n", &["bad.toml, line 3, column 9", "extra `=`, expected nothing"]),
    (b"task = \"oscillators\"\n[optimizer]\nkappa 0.5\n", &["bad.toml, line 3, column 7", "key with no value, expected `=`"]),
    (b"task = \"oscillators\"\n[training]\nbatch = 12 8\n", &["bad.toml, line 3, column 9", "string values must be quoted, expected literal string"]),
    (b"task = \"oscillators\"\n[training]\nbatch = 8\nbatch = 9\n", &["bad.toml, line 4, column 1", "duplicate key"]),
    (b"task = \"oscillators\"\n[training]\nbatch = 8\n[training]\nseed = 1\n", &["bad.toml, line 4, column 2", "duplicate key"]),
    (b"task = \"oscillators\"\n[network]\nhidden = [20, 20\n", &["bad.toml, line 3, column 17", "unclosed array, expected `]`"]),
    (b"task = \"oscillators\"\n[data]\ntrain = 0x\n", &["bad.toml, line 3, column 9", "integer number overflowed"]),
    (b"task = \"oscillators\"\n[stop]\nsteps = 010\n", &["bad.toml, line 3, column 9", "unexpected leading zero, expected nothing"]),
    (b"task = \"oscillators\"\n[stop]\ntime = 1e\n", &["bad.toml, line 3, column 10", "invalid exponent, expected digits"]),
    (b"task = \"oscillators\"\n[simulator]\nkind = \"osc\\q\"\n", &["bad.toml, line 3, column 13", "missing escaped value, expected `b`, `e`, `f`, `n`, `r`,"]),
    (b"task = \"oscillators\"\n[optimiser]\nkappa = 1\n", &["bad.toml, line 3, column 1", "did you mean `optimizer`?"]),
    (b"task = \"oscillators\"\nverbose = true\n", &["bad.toml, line 2, column 1", "unknown setting `verbose`; known here: about, before, data,"]),
    (b"task = \"oscillators\"\n[simulator]\nmases = 3\n", &["bad.toml, line 3, column 1", "did you mean `simulator.masses`?"]),
    (b"task = \"oscillators\"\n[network]\nactivations = \"relu\"\n", &["bad.toml, line 3, column 1", "did you mean `network.activation`?"]),
    (b"task = \"oscillators\"\n[objective]\nfactr = 2.0\n", &["bad.toml, line 3, column 1", "did you mean `objective.factor`?"]),
    (b"task = \"oscillators\"\n[data]\nhigth = 2.0\n", &["bad.toml, line 3, column 1", "did you mean `data.high`?"]),
    (b"task = \"oscillators\"\n[training]\nbach = 3\n", &["bad.toml, line 3, column 1", "did you mean `training.batch`?"]),
    (b"task = \"oscillators\"\n[stop]\nepoch = 3\n", &["bad.toml, line 3, column 1", "did you mean `stop.epochs`?"]),
    (b"task = \"oscillators\"\n[stop]\nstep = 3\n", &["bad.toml, line 3, column 1", "a number of steps to end after is `stop.steps`"]),
    (b"task = \"oscillators\"\n[optimizer]\nkapa = 1.0\n", &["bad.toml, line 3, column 1", "did you mean `optimizer.kappa`?"]),
    (b"task = \"oscillators\"\n[optimizer]\nbeta1 = 0.9\n", &["bad.toml, line 3, column 1", "`optimizer.beta1` is no setting of hig", "it has gram_tolerance, kappa, learning_rate, rate, solver,"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbacth = 8\noptimizer = { name = \"adam\" }\n", &["bad.toml, line 4, column 1", "did you mean `before.0.batch`?"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 8\noptimizer = { name = \"adam\", learning_rat = 1.0 }\n", &["bad.toml, line 5, column 1", "did you mean `before.0.optimizer.learning_rate`?"]),
    (b"task = \"oscillators\"\n[with.hig]\ntraining = { bach = 8 }\n", &["bad.toml, line 3, column 14", "did you mean `with.hig.training.batch`?"]),
    (b"task = \"oscillators\"\n[with.hig.optimizer]\nkapa = 8\n", &["bad.toml, line 3, column 1", "did you mean `with.hig.optimizer.kappa`?"]),
    (b"task = \"oscillators\"\n[with.hig]\ntask = \"toy\"\n", &["bad.toml, line 3, column 1", "unknown setting `with.hig.task`"]),
    (b"task = \"oscillators\"\n[simulator]\nkind = \"oscilators\"\n", &["bad.toml, line 3, column 1", "did you mean `oscillators`?"]),
    (b"[simulator]\nkind = \"oscilators\"\n[objective]\nkind = \"squared-error\"\n[data]\nkind = \"uniform\"\n", &["bad.toml, line 2, column 1", "did you mean `oscillators`?"]),
    (b"task = \"oscillators\"\n[objective]\nkind = \"sqared-error\"\n", &["bad.toml, line 3, column 1", "did you mean `squared-error`?"]),
    (b"task = \"oscillators\"\n[data]\nkind = \"unifrom\"\n", &["bad.toml, line 3, column 1", "did you mean `uniform`?"]),
    (b"task = \"oscillators\"\n[optimizer]\nname = \"adm\"\n", &["bad.toml, line 3, column 1", "did you mean `adam`?"]),
    (b"task = \"oscillators\"\n[network]\nactivation = \"rel\"\n", &["bad.toml, line 3, column 1", "did you mean `relu`?"]),
    (b"task = \"oscillators\"\n[network]\ninit = \"glorot\"\n", &["bad.toml, line 3, column 1", "`network.init`", "one of glorot-uniform, glorot-normal, he-uniform,"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"dens\", width = 3 }]\n", &["bad.toml, line 4, column 13", "did you mean `dense`?"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ width = 3 }]\n", &["bad.toml, line 4, column 11", "`network.layers.0.kind`", "one of dense, activation, residual, bounds"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 8\noptimizer = { name = \"adm\" }\n", &["bad.toml, line 5, column 1", "did you mean `adam`?"]),
    (b"task = \"oscillators\"\n[optimizer]\nsolver = \"kryvol:8\"\n", &["bad.toml, line 3, column 1", "did you mean `krylov:8`?"]),
    (b"task = \"oscillators\"\n[training]\nschedule = \"cosin\"\n", &["bad.toml, line 3, column 1", "did you mean `cosine`?"]),
    (b"task = \"oscillators\"\n[training]\non_fault = \"rollback\"\n", &["bad.toml, line 3, column 1", "did you mean `roll-back`?"]),
    (b"task = \"oscillators\"\n[objective]\nreduction = \"average\"\n", &["bad.toml, line 3, column 1", "`objective.reduction`", "one of mean, sum"]),
    (b"task = \"oscillators\"\n[optimizer]\nlearning_rate = \"fast\"\n", &["bad.toml, line 3, column 1", "`optimizer.learning_rate`", "a number"]),
    (b"task = \"oscillators\"\n[training]\nbatch = 8.0\n", &["bad.toml, line 3, column 1", "`training.batch`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\n[training]\nseed = -1\n", &["bad.toml, line 3, column 1", "`training.seed`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\n[training]\nshuffle = 1\n", &["bad.toml, line 3, column 1", "`training.shuffle`", "true or false"]),
    (b"task = \"oscillators\"\n[network]\nhidden = 20\n", &["bad.toml, line 3, column 1", "`network.hidden`", "a list of whole numbers such as [20, 20]"]),
    (b"task = \"oscillators\"\n[network]\nhidden = [20, \"20\"]\n", &["bad.toml, line 3, column 1", "`network.hidden.1`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\n[simulator]\nmasses = [2]\n", &["bad.toml, line 3, column 1", "`simulator.masses`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\n[simulator]\nkind = 2\n", &["bad.toml, line 3, column 1", "`simulator.kind`", "one of oscillators, dipole, poisson, toy, scaling, identity"]),
    (b"task = \"oscillators\"\n[optimizer]\nname = true\n", &["bad.toml, line 3, column 1", "unknown optimizer `true`", "known: hig, hig-auto, hig-kron,"]),
    (b"task = \"oscillators\"\nsimulator = \"oscillators\"\n", &["bad.toml, line 2, column 1", "`simulator`", "a table"]),
    (b"task = \"oscillators\"\nstop = 20\n", &["bad.toml, line 2, column 1", "`stop`", "a table"]),
    (b"task = 3\n", &["bad.toml, line 1, column 1", "unknown task `3`", "known: oscillators, dipole"]),
    (b"task = \"oscillators\"\nbefore = { steps = 3 }\n", &["bad.toml, line 2, column 1", "`before`", "a list of tables"]),
    (b"task = \"oscillators\"\n[network]\nlayers = \"dense\"\n", &["bad.toml, line 3, column 1", "`network.layers`", "a list"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [\"dense\"]\n", &["bad.toml, line 4, column 1", "`network.layers.0`", "a table"]),
    (b"task = \"oscillators\"\n[data]\ntarget = 3.0\n", &["bad.toml, line 3, column 1", "`data.target`", "a list of numbers such as [0.5, 1.0]"]),
    (b"task = \"oscillators\"\n[training]\nfrom = 3\n", &["bad.toml, line 3, column 1", "`training.from`", "a text"]),
    (b"task = \"oscillators\"\n[data]\ntrain = 1979-05-27\n", &["bad.toml, line 3, column 1", "`data.train`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\n[data]\ntrain = 9223372036854775808\n", &["bad.toml, line 3, column 9", "u64 value was too large"]),
    (b"task = \"oscillators\"\n[optimizer]\n  kappa = 2\n", &["bad.toml, line 3, column 3", "`optimizer.kappa`", "from -1 to 1"]),
    (b"task = \"oscillators\"\n[optimizer]\nkappa = nan\n", &["bad.toml, line 3, column 1", "`optimizer.kappa`", "from -1 to 1"]),
    (b"task = \"oscillators\"\n[optimizer]\ntruncation = 1.0\n", &["bad.toml, line 3, column 1", "`optimizer.truncation`", "at least 0 and below 1"]),
    (b"task = \"oscillators\"\n[optimizer]\nlearning_rate = 0\n", &["bad.toml, line 3, column 1", "`optimizer.learning_rate`", "positive and finite"]),
    (b"task = \"oscillators\"\n[optimizer]\nlearning_rate = -0.5\n", &["bad.toml, line 3, column 1", "`optimizer.learning_rate`", "positive and finite"]),
    (b"task = \"oscillators\"\n[optimizer]\nsolver = \"krylov:0\"\n", &["bad.toml, line 3, column 1", "`optimizer.solver`", "svd, gram, auto, or krylov:K with K at least 1"]),
    (b"task = \"oscillators\"\n[optimizer]\ngram_tolerance = 0.0\n", &["bad.toml, line 3, column 1", "`optimizer.gram_tolerance`", "positive"]),
    (b"task = \"oscillators\"\n[training]\nbatch = 0\n", &["bad.toml, line 3, column 1", "`training.batch`", "at least 1"]),
    (b"task = \"oscillators\"\n[data]\ntrain = 64\n\n[training]\nbatch = 65\n", &["bad.toml, line 6, column 1", "`training.batch`", "at most the number of training samples, data.train = 64"]),
    (b"task = \"oscillators\"\n[data]\ntrain = 64\n", &["`training.batch`", "at most the number of training samples, data.train = 64"]),
    (b"task = \"oscillators\"\n[data]\ntest = 0\n", &["bad.toml, line 3, column 1", "`data.test`", "from 1 to 10000000"]),
    (b"task = \"oscillators\"\n[stop]\nsteps = 0\n", &["bad.toml, line 3, column 1", "`stop.steps`", "at least 1"]),
    (b"task = \"oscillators\"\n[stop]\ntime = inf\n", &["bad.toml, line 3, column 1", "`stop.time`", "positive and finite"]),
    (b"task = \"oscillators\"\n[simulator]\nmasses = 0\n", &["bad.toml, line 3, column 1", "`simulator.masses`", "from 1 to 10000"]),
    (b"task = \"oscillators\"\n[simulator]\ndt = 0.0\n", &["bad.toml, line 3, column 1", "`simulator.dt`", "positive and finite"]),
    (b"task = \"oscillators\"\n[network]\nhidden = [20, 0]\n", &["bad.toml, line 3, column 1", "`network.hidden`", "a list of widths from 1 to 16777216"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"dense\", width = 0 }]\n", &["bad.toml, line 4, column 29", "`network.layers.0.width`", "at least 1"]),
    (b"task = \"oscillators\"\n[training]\nblow_up = 0.5\n", &["bad.toml, line 3, column 1", "`training.blow_up`", "above 1 and finite, or 0 for no limit"]),
    (b"task = \"oscillators\"\n[training]\nthreads = 2000\n", &["bad.toml, line 3, column 1", "`training.threads`", "at most 1024"]),
    (b"task = \"oscillators\"\n[data]\nlow = 2.0\n", &["`data.high`", "above low, both finite"]),
    (b"task = \"toy\"\n[simulator]\nlambda = 0.0\n", &["bad.toml, line 3, column 1", "`simulator.lambda`", "finite and not 0"]),
    (b"task = \"oscillators\"\n[optimizer]\nname = \"adam\"\nbeta1 = 1.0\n", &["bad.toml, line 4, column 1", "`optimizer.beta1`", "at least 0 and below 1"]),
    (b"task = \"oscillators\"\n[optimizer]\nname = \"adam\"\nkappa = 0.5\n", &["bad.toml, line 4, column 1", "`optimizer.kappa` is no setting of adam", "it has beta1, beta2, epsilon, learning_rate"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 0\nbatch = 8\noptimizer = { name = \"adam\" }\n", &["bad.toml, line 3, column 1", "`before.0.steps`", "at least 1"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 0\noptimizer = { name = \"adam\" }\n", &["bad.toml, line 4, column 1", "`before.0.batch`", "at least 1"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 8\noptimizer = { name = \"adam\", beta2 = 1.0 }\n", &["bad.toml, line 5, column 1", "`before.0.optimizer.beta2`", "at least 0 and below 1"]),
    (b"task = \"oscillators\"\n[with.hig]\nstop = { steps = 0 }\n", &["`stop.steps`", "at least 1"]),
    (b"task = \"oscillators\"\n[with.hig]\ntraining = { batch = 0 }\n", &["`training.batch`", "at least 1"]),
    (b"task = \"oscillators\"\n[with.hig.optimizer]\nkappa = 7.0\n", &["`optimizer.kappa`", "from -1 to 1"]),
    (b"task = \"oscillators\"\n[network]\nhidden = [20]\nlayers = [{ kind = \"dense\", width = 20 }]\n", &["bad.toml, line 3, column 1", "`network.hidden`", "[] where network.layers lists the layers"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"dense\", widht = 20 }]\n", &["bad.toml, line 4, column 29", "did you mean `network.layers.0.width`?"]),
    (b"task = \"oscillators\"\nnetwork.hidden = []\n[[network.layers]]\nkind = \"dense\"\nwidth = 20\n\n[[network.layers]]\nkind = \"activation\"\nfunction = \"rel\"\n", &["bad.toml, line 9, column 1", "did you mean `relu`?"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [\n  { kind = \"dense\", width = 8 },\n  { kind = \"residual\", layers = [{ kind = \"dense\", width = 9 }] },\n]\n", &["bad.toml, line 6, column 24", "`network.layers.1.layers`", "does not fit: "]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [\n  { kind = \"dense\", width = 8 },\n  { kind = \"residual\", layers = [\n    { kind = \"dense\", width = 8 },\n    { kind = \"activaton\", function = \"tanh\" },\n  ] },\n]\n", &["bad.toml, line 6, column 24", "did you mean `activation`?"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [\n  { kind = \"dense\", width = 8 },\n  { kind = \"residual\", layers = [\n    { kind = \"dense\", width = 8 },\n    { kind = \"activation\", function = \"tan\" },\n  ] },\n]\n", &["bad.toml, line 6, column 24", "did you mean `tanh`?"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [\n  { kind = \"residual\", layers = [\n    { kind = \"residual\", layers = [\n      { kind = \"dense\", widt = 4 },\n    ] },\n  ] },\n]\n", &["bad.toml, line 5, column 24", "did you mean `network.layers.0.layers.0.layers.0.width`?"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"residual\" }]\n", &["bad.toml, line 4, column 11", "`network.layers.0.layers`", "does not fit: "]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"residual\", layers = 3 }]\n", &["bad.toml, line 4, column 32", "`network.layers.0.layers`", "a list of tables"]),
    (b"task = \"oscillators\"\nnetwork.hidden = []\n[[network.layers]]\nkind = \"dense\"\nwidth = -4\n", &["bad.toml, line 5, column 1", "`network.layers.0.width`", "a whole number from 0 to 9223372036854775807"]),
    (b"task = \"oscillators\"\nnetwork.hidden = []\n[network.layers]\nkind = \"dense\"\n", &["bad.toml, line 3, column 10", "`network.layers`", "a list"]),
    (b"task = \"regression\"\n[objective]\nkind = \"overlap\"\n", &["bad.toml, line 3, column 1", "`objective.kind`", "expected 2 components, found 1"]),
    (b"task = \"regression\"\n[data]\nkind = \"eigenstates\"\n", &["bad.toml, line 3, column 1", "`data.kind`", "another with the simulator identity: eigenstates belongs to"]),
    (b"task = \"regression\"\n[data]\nkind = \"uniform\"\n", &["`data.target`", "a list of 1 numbers, one for each outcome of the simulator"]),
    (b"task = \"regression\"\n[simulator]\nwidth = 2\n", &["`data.kind`", "does not fit: a sample's "]),
    (b"task = \"oscillators\"\n[data]\ntarget = [0.0, 0.0, 0.0]\n", &["bad.toml, line 3, column 1", "`data.target`", "a list of 4 numbers, one for each outcome of the simulator"]),
    (b"task = \"oscillators\"\n[data]\nkind = \"bump\"\n", &["bad.toml, line 3, column 1", "`data.kind`", "does not fit: a sample's "]),
    (b"task = \"oscillators\"\n[data]\nfresh = true\n\n[training]\nshuffle = true\n", &["bad.toml, line 6, column 1", "`training.shuffle`", "false where data.fresh draws every mini-batch anew"]),
    (b"task = \"oscillators\"\n[training]\nschedule = \"cosine\"\n", &["bad.toml, line 3, column 1", "`training.schedule`", "constant where a run has no number of steps or epochs to"]),
    (b"task = \"oscillators\"\n[training]\nschedule = \"cosine\"\n[stop]\nsteps = 9\n[optimizer]\nname = \"lm\"\n", &["bad.toml, line 3, column 1", "`training.schedule`", "constant with lm, which chooses its steps' lengths"]),
    (b"task = \"oscillators\"\n[[before]]\nbatch = 8\noptimizer = { name = \"adam\" }\n", &["bad.toml, line 2, column 1", "`before.0.steps` is absent"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\noptimizer = { name = \"adam\" }\n", &["bad.toml, line 2, column 1", "`before.0.batch` is absent"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 8\n", &["bad.toml, line 2, column 1", "`before.0.optimizer` is absent"]),
    (b"task = \"oscillators\"\n[[before]]\nsteps = 3\nbatch = 8\noptimizer = { learning_rate = 0.1 }\n", &["`before.0.optimizer.name` is absent"]),
    (b"task = \"oscilators\"\n[optimizer]\nkappa = 0.5\n", &["bad.toml, line 1, column 1", "did you mean `oscillators`?"]),
    (b"task = \"oscilators\"\n", &["bad.toml, line 1, column 1", "did you mean `oscillators`?"]),
    (b"[optimizer]\nkappa = 0.5\n", &["bad.toml", "unknown task `bad`", "name simulator.kind"]),
    (b"[simulator]\nkind = \"oscillators\"\n[objective]\nkind = \"squared-error\"\n", &["`data.kind`", "one of uniform, simulated, eigenstates,"]),
    (b"[simulator]\nkind = \"oscillators\"\n[data]\nkind = \"uniform\"\n", &["`objective.kind`", "one of squared-error, overlap, relative-error, huber, cauchy"]),
    (b"[simulator]\nmasses = 2\n\n[objective]\nkind = \"squared-error\"\n\n[data]\nkind = \"uniform\"\n", &["bad.toml", "unknown task `bad`", "name simulator.kind"]),
    (b"[simulator]\nkind = \"oscillators\"\n\n[objective]\nkind = \"squared-error\"\n\n[data]\nkind = \"uniform\"\n[stop]\ntime = 0\n", &["bad.toml, line 10, column 1", "`stop.time`", "positive and finite"]),
    (b"[simulator]\nkind = \"oscillators\"\n\n[objective]\nkind = \"squared-error\"\n\n[data]\nkind = \"uniform\"\nlow = 5\n", &["`data.high`", "above low, both finite"]),
    (b"", &["bad.toml", "unknown task `bad`", "known: oscillators, dipole"]),
    (b"# nothing\n", &["bad.toml", "unknown task `bad`", "known: oscillators, dipole"]),
    (b"task = \"oscillators\"\n# gr\xfc\xdfe\n[stop]\nsteps = 1\n", &["bad.toml", "invalid utf-8"]),
    (b"\xff\xfe", &["bad.toml", "invalid utf-8"]),
    ("\u{feff}task = \"oscilators\"\n".as_bytes(), &["bad.toml, line 1, column 2", "did you mean `oscillators`?"]),
    (b"task = \"oscillators\"\n[with.adm]\ntraining = { batch = 8 }\n", &["bad.toml, line 3, column 1", "did you mean `with.adam`?"]),
    (b"task = \"oscillators\"\n[with.adam.optimizer]\nkapa = 8\n", &["bad.toml, line 3, column 1", "unknown setting `with.adam.optimizer.kapa`"]),
    (b"task = \"oscillators\"\nabout = 3\n", &["bad.toml, line 2, column 1", "`about` is 3", "a text"]),
    (b"task = \"oscillators\"\nwith = 3\n", &["bad.toml, line 2, column 1", "`with` is 3", "a table"]),
    (b"task = \"oscillators\"\n[with]\nhig = 3\n", &["bad.toml, line 3, column 1", "`with.hig` is 3", "a table"]),
    (b"task = \"oscillators\"\n[with.hig]\nstop = { steps = 0 }\n", &["bad.toml, line 3, column 10", "`stop.steps` is 0"]),
    (b"task = \"oscillators\"\n[with.hig.optimizer]\nkappa = 7.0\n", &["bad.toml, line 3, column 1", "from -1 to 1"]),
    (b"task = \"oscillators\"\n[network]\nbounds = 3\n", &["bad.toml, line 3, column 1", "`network.bounds`", "a list of numbers"]),
    (b"task = \"oscillators\"\n[network]\nbounds = [0.5]\n", &["bad.toml, line 3, column 1", "`network.bounds`", "a pair [lower, upper] such as [-1.0, inf]"]),
    (b"task = \"oscillators\"\n[network]\nbounds = [0.5, -0.5]\n", &["bad.toml, line 3, column 1", "`network.bounds`", "a lower bound and a larger upper one"]),
    (b"task = \"oscillators\"\n[network]\nbounds = [nan, 1]\n", &["bad.toml, line 3, column 1", "`network.bounds`", "a lower bound and a larger upper one"]),
    (b"task = \"oscillators\"\n[network]\nbounds = [[0, 1], [0, \"a\"]]\n", &["bad.toml, line 3, column 1", "`network.bounds.1.1`", "a number"]),
    (b"task = \"oscillators\"\n[network]\nbounds = [[0, 1], [0, inf]]\n", &["bad.toml, line 3, column 1", "`network.bounds` is a list of 2", "a list of 96, one for each control"]),
    (b"task = \"toy\"\n[network]\nbounds = [[0, 1], [1, 1]]\n", &["bad.toml, line 3, column 1", "`network.bounds.1`", "a lower bound and a larger upper one"]),
    (b"task = \"oscillators\"\n[network]\nhidden = []\nlayers = [{ kind = \"bounds\", bounds = [1, 0] }]\n", &["bad.toml, line 4, column 30", "`network.layers.0.bounds`", "a lower bound and a larger upper one"]),
    (b"task = \"oscillators\"\n[objective]\nweights = [1, 1, -2, 1]\n", &["bad.toml, line 3, column 1", "`objective.weights.2` is -2", "positive or 0, and finite"]),
    (b"task = \"oscillators\"\n[objective]\nweights = [0, 0, 0, 0]\n", &["bad.toml, line 3, column 1", "`objective.weights`", "a list with a weight above 0"]),
    (b"task = \"oscillators\"\n[objective]\nweights = [1, 1, 1]\n", &["bad.toml, line 3, column 1", "`objective.weights` does not fit: the objective: expected 4 weights, found 3"]),
    (b"task = \"oscillators\"\n[objective]\nkind = \"huber\"\nscale = 0\n", &["bad.toml, line 4, column 1", "`objective.scale`", "positive and finite"]),
    (b"task = \"oscillators\"\n[objective]\nkind = \"cauchy\"\nscale = inf\n", &["bad.toml, line 4, column 1", "`objective.scale`", "positive and finite"]),
];

/// What is wrong with the answer to a task file, if anything is.
fn fault(home: &Path, file: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(["train", file])
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .expect("hig runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if home.join("runs").exists() {
        fs::remove_dir_all(home.join("runs")).unwrap();
        return Some("a folder was made".to_owned());
    }
    let missing = words.iter().find(|word| !said.contains(**word));
    let refused = output.status.code() == Some(2) && said.lines().count() == 1 && output.stdout.is_empty();
    (missing.is_some() || !refused).then(|| format!("{:?}, {said:?} lacks {missing:?}", output.status.code()))
}

#[test]
fn bad_task_files_are_refused_in_one_sentence_that_says_where_and_how_to_mend() {
    let home = tempfile::tempdir().unwrap();
    let long = "a".repeat((1 << 20) + 1);
    let deep = format!("task = \"oscillators\"\nx = {}{}\n", "[".repeat(200), "]".repeat(200));
    let blocks = "[{ kind = \"residual\", layers = ".repeat(9) + "[]" + &"}]".repeat(9);
    let blocks = format!("task = \"oscillators\"\n[network]\nlayers = {blocks}\n");
    let made: [(&[u8], &[&str]); 3] = [
        (long.as_bytes(), &["bad.toml", "more than 1048576"]),
        (deep.as_bytes(), &["bad.toml, line 2, column 85", "recurs"]),
        (blocks.as_bytes(), &["bad.toml, line 3, column 1", "nested deeper"]),
    ];
    let mut faults = Vec::new();
    for (text, words) in REFUSED.iter().copied().chain(made) {
        fs::write(home.path().join("bad.toml"), text).unwrap();
        let short = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        faults.extend(fault(home.path(), "bad.toml", words).map(|fault| format!("{short}  {fault}")));
    }
    assert!(faults.is_empty(), "{} files:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn what_is_no_file_is_refused_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("folder.toml")).unwrap();
    for name in ["folder.toml", "missing.toml"] {
        assert_eq!(fault(home.path(), name, &["cannot read", name]), None);
    }
}

#[test]
fn a_good_task_file_is_not_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("good.toml"),
        "task = \"toy\"\n[network]\nlayers = [{ kind = \"dense\", width = 5 }]\n[stop]\nsteps = 1\n",
    )
    .unwrap();
    assert_eq!(fault(home.path(), "good.toml", &[]).as_deref(), Some("a folder was made"));
}
