//! Data files and predictions that `hig fit` and `hig predict` refuse: each in a sentence that says where, and nothing
//! is written.

mod common;

use std::fs;
use std::path::Path;

use common::data::{fit, hig, npy, npz, safetensors, stderr, table, text};

/// A file's text, the arguments after its name, and words of what is said.
type Bad = (&'static str, &'static [&'static str], &'static [&'static str]);

/// A file, what it holds, the arguments, and words of the message.
type BadArrays<'a> = (&'a str, Vec<u8>, &'a [&'a str], &'a [&'a str]);

const GOOD: &str = "a,b,y\n1,2,3\n2,3,5\n3,5,8\n5,8,13\n";

const BAD: &[Bad] = &[
    ("", &[], &["data.csv is empty"]),
    ("\n\n", &[], &["data.csv is empty"]),
    ("a,b,y\n", &[], &["data.csv has no row of numbers"]),
    ("a,b,y\n1,2,3\n", &[], &["has 1 row", "at least 2"]),
    ("a\n1\n2\n", &[], &["1 column", "one for the input and one for the target"]),
    ("a,b,y\n1,2,3\n1,2\n", &[], &["data.csv, line 3", "2 fields", "3"]),
    ("a,b,y\n1,2,3\n1,2,3,4\n", &[], &["data.csv, line 3", "4 fields"]),
    ("a,b,y\n1,2,3\n1,red,3\n", &[], &["line 3, column 2 (`b`): `red` is no number", "--inputs"]),
    ("1,2,3\n1,red,3\n", &[], &["line 2, column 2 (`2`): `red` is no number"]),
    ("1,b,3\n1,2,3\n", &[], &["line 1, column 2 (`2`): `b` is no number", "--header yes"]),
    (
        "a;b;y\n1,5;2;3\n1;2;3\n",
        &[],
        &["line 2, column 1 (`a`): `1,5` is no number", "decimals with a point"],
    ),
    ("a,b,y\r\n1,2,3\r\n1,red,3\r\n", &[], &["line 3, column 2 (`b`): `red` is no number"]),
    ("a,b,y\n\n1,2,3\n\n1,red,3", &[], &["line 5, column 2 (`b`): `red` is no number"]),
    ("a,b,y\n1,2,3\n1,,3\n", &[], &["line 3, column 2 (`b`): the value is missing", "--missing drop"]),
    ("a,b,y\n1,2,3\n1,n/a,3\n", &[], &["line 3, column 2", "missing"]),
    ("a,b,y\n1,2,3\n1,NaN,3\n", &[], &["line 3, column 2", "missing"]),
    ("a,b,y\n1,2,inf\n1,2,3\n", &[], &["line 2, column 3 (`y`): `inf` is infinite"]),
    ("a,b,y\n1,2,1e999\n1,2,3\n", &[], &["line 2, column 3", "infinite"]),
    ("a,b,y\n,2,3\n,3,4\n", &["--missing", "drop"], &["no row without a missing value"]),
    ("a,a,y\n1,2,3\n2,3,4\n", &[], &["columns 1 and 2 are both named `a`"]),
    ("a,b,y\n1,2,3\n1,3,4\n1,5,7\n", &[], &["the column `a`", "is 1 in all", "nothing can be learnt"]),
    ("a,b,y\n1,2,3\n2,3,3\n3,1,3\n", &[], &["the column `y`", "is 3 in all"]),
    ("a,b,y\n1e200,2,3\n-1e200,3,4\n3,1,9\n", &[], &["the column `a`", "too large to be squared"]),
    (GOOD, &["--targets", "z"], &["data.csv has no column `z` (--targets)"]),
    (GOOD, &["--inputs", "aa"], &["no column `aa` (--inputs)", "did you mean `a`?"]),
    (GOOD, &["--targets", "4"], &["no column 4 (--targets)", "1 to 3"]),
    (GOOD, &["--targets", "0"], &["no column 0 (--targets)", "1 to 3"]),
    (GOOD, &["--inputs", "2-9"], &["no column 2-9 (--inputs)", "1 to 3"]),
    (GOOD, &["--inputs", "a,b,y"], &["`y` of data.csv is both an input and a target"]),
    (GOOD, &["--inputs", "a,a"], &["`a` is named twice (--inputs)"]),
    (GOOD, &["--inputs", ","], &["--inputs names no column"]),
    (GOOD, &["--targets", "1-3"], &["all columns of data.csv are targets"]),
    (GOOD, &["--test", "missing.csv"], &["cannot read missing.csv"]),
    (GOOD, &["--test", "other.csv"], &["other.csv has no column `a`", "it has x, y"]),
    (GOOD, &["--weights", "z"], &["no column `z` (--weights)"]),
    (GOOD, &["--weights", "1-2"], &["--weights 1-2 names 2 columns", "takes one"]),
    (
        GOOD,
        &["--weights", "b", "--inputs", "a,b"],
        &["`b` of data.csv holds the weights", "leave it out there"],
    ),
    (GOOD, &["--weights", "y", "--targets", "y"], &["`y` of data.csv holds the weights"]),
    (
        "a,b,y\n1,1,3\n2,-1,5\n",
        &["--weights", "b"],
        &["data.csv, line 3, column 2 (`b`): the weight is -1", "positive or 0"],
    ),
    ("a,b,y\n1,1,3\n2,inf,5\n", &["--weights", "b"], &["line 3, column 2 (`b`): `inf` is infinite"]),
    ("a,b,y\n1,1,3\n2,,5\n", &["--weights", "b"], &["line 3, column 2 (`b`): the value is missing"]),
    ("a,b,y\n1,0,3\n2,0,5\n", &["--weights", "b"], &["the weights (`b`) of all training rows", "are 0"]),
    (GOOD, &["--weights", "b", "--test", "other.csv"], &["other.csv has no column"]),
    (GOOD, &["--test-share", "1"], &["`data.test_share` is 1", "above 0 and below 1", "--test-share"]),
    (GOOD, &["--test-share", "-0.1"], &["`data.test_share` is -0.1"]),
    (GOOD, &["--missing", "ignore"], &["`data.missing`", "refuse, drop", "--missing"]),
    (GOOD, &["--header", "maybe"], &["`data.header`", "auto, yes, no", "--header"]),
    (GOOD, &[], &["`training.batch` is 32", "data.train = 3"]),
    (
        GOOD,
        &["--batch", "2", "--set", "data.train=7"],
        &["`data.train` is 7", "0, for all samples that the file has, 3"],
    ),
    (GOOD, &["--batch", "2", "--set", "data.fil=7"], &["unknown setting `data.fil`"]),
    (
        GOOD,
        &["--set", "objective.kind=cross-entropy", "--inputs", "a", "--targets", "b,y"],
        &["line", "the targets are", "must be probabilities"],
    ),
    ("a,y\n1,red\n2,red\n3,red\n", &["--set", "objective.kind=cross-entropy"], &["1 different labels"]),
    (
        GOOD,
        &["--batch", "2", "--test", "labels.csv", "--set", "objective.kind=cross-entropy"],
        &["labels.csv, line 2: the class `4`", "it has 13, 3, 5, 8"],
    ),
    (GOOD, &["--batch", "2", "--set", "simulator.kind=dipole"], &["does not fit"]),
];

/// What is wrong with the answer, if anything is.
fn fault(home: &Path, arguments: &[&str], words: &[&str]) -> Option<String> {
    let list = || {
        let mut names: Vec<_> = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = list();
    let output = hig(arguments, home);
    let said = stderr(&output);
    let missing = words.iter().find(|word| !said.contains(**word));
    let refused = output.status.code() == Some(2) && said.lines().count() == 1 && output.stdout.is_empty();
    let fault = missing.is_some() || !refused || list() != before;
    fault.then(|| {
        format!("{arguments:?}: {:?}, {said:?} lacks {missing:?}; {:?}", output.status.code(), list())
    })
}

#[test]
fn bad_data_are_refused_in_one_sentence_that_says_where_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("other.csv"), "x,y\n1,2\n").unwrap();
    fs::write(home.path().join("labels.csv"), "a,b,y\n1,2,4\n").unwrap();
    let mut faults = Vec::new();
    for (text, more, words) in BAD {
        fs::write(home.path().join("data.csv"), text).unwrap();
        faults.extend(fault(home.path(), &[&["fit", "data.csv"], *more].concat(), words));
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), BAD.len(), faults.join("\n"));
}

#[test]
fn bad_arrays_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
    let arrays = [("x", npy(&values, "(6,)", "False")), ("y", npy(&values[..4], "(4,)", "False"))];
    let tensors = safetensors(&[("x", vec![1, 2, 3], values.to_vec()), ("y", vec![6], values.to_vec())]);
    let bad: [BadArrays<'_>; 9] = [
        ("a.npy", b"nothing of the kind".to_vec(), &[], &["a.npy is no .npy file"]),
        ("a.npy", npy(&values, "(3, 3)", "False"), &[], &["cannot read a.npy"]),
        ("a.npy", npy(&values, "(9, 9)", "True"), &[], &["a.npy is no .npy file"]),
        ("a.npy", npy(&[f64::INFINITY; 4], "(2, 2)", "False"), &[], &["a.npy, row 1, column 1", "infinite"]),
        ("a.npz", b"PK nothing".to_vec(), &[], &["a.npz is no .npz file"]),
        (
            "a.npz",
            npz(&arrays, zip::CompressionMethod::Stored),
            &[],
            &["a.npz holds the arrays x, y", "--inputs and --targets"],
        ),
        (
            "a.npz",
            npz(&arrays, zip::CompressionMethod::Stored),
            &["--inputs", "x", "--targets", "y"],
            &["`x` has 6 rows and `y` has 4"],
        ),
        ("a.safetensors", tensors[..60].to_vec(), &[], &["a.safetensors is no .safetensors file"]),
        (
            "a.safetensors",
            tensors,
            &["--inputs", "x", "--targets", "y"],
            &["the array `x` has the shape [1, 2, 3]"],
        ),
    ];
    let mut faults = Vec::new();
    for (name, bytes, more, words) in bad {
        fs::write(home.path().join(name), bytes).unwrap();
        faults.extend(fault(home.path(), &[&["fit", name], more].concat(), words));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn bad_predictions_are_refused_and_nothing_is_written() {
    let home = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
    put("data.csv", &text(&table(60), "a,b,y", [0, 1, 2], ",", "\n"));
    fit("data.csv", "run", &[], home.path());
    put("bare.csv", "1,2\n2,3\n");
    put("lacks.csv", "a,c\n1,2\n");
    put("word.csv", "a,b\n1,2\n1,x\n");
    put("hole.csv", "a,b\n1,2\n1,\n");
    put("empty.csv", "");
    put("best.safetensors", "nothing");
    fs::create_dir(home.path().join("folder.csv")).unwrap();
    fs::create_dir(home.path().join("no-run")).unwrap();
    for (arguments, words) in [
        (&["run", "missing.csv"][..], &["cannot read missing.csv"][..]),
        (&["run", "folder.csv"], &["cannot read folder.csv: it is no file"]),
        (&["run", "empty.csv"], &["empty.csv is empty"]),
        (&["run", "bare.csv"], &["bare.csv has no header", "a, b"]),
        (&["run", "lacks.csv"], &["lacks.csv has no column `b`", "it has a, c"]),
        (&["run", "word.csv", "--out", "p.csv"], &["word.csv, line 3, column 2 (`b`): `x` is no number"]),
        (&["run", "hole.csv", "--out", "p.npy"], &["hole.csv, line 3, column 2 (`b`): the value is missing"]),
        (&["run", "data.csv", "--out", "p.txt"], &["--out p.txt must end in .csv or .npy"]),
        (&["run", "data.csv", "--out", "folder.csv"], &["cannot write folder.csv: it is a folder"]),
        (&["run", "data.csv", "--out", "no/p.csv"], &["cannot write no/p.csv"]),
        (&["run", "data.csv", "--missing", "leave"], &["--missing leave", "refuse"]),
        (&["no-run", "data.csv"], &["cannot predict", "best.safetensors"]),
        (&["best.safetensors", "data.csv"], &["cannot predict", "is not a checkpoint"]),
        (&["run/checkpoint.safetensors", "data.csv"], &["no columns and scales in its metadata"]),
        (&["run/best.safetensors", "data.csv", "--last"], &["--last is for a run's folder"]),
    ] {
        assert_eq!(fault(home.path(), &[&["predict"], arguments].concat(), words), None);
    }
    let path = home.path().join("run/best.safetensors");
    let bytes = fs::read(&path).unwrap();
    let place = bytes.windows(4).position(|four| four == b"mean").unwrap();
    let digit = place + bytes[place..].iter().position(u8::is_ascii_digit).unwrap();
    let mut damaged = bytes.clone();
    damaged[digit] = if damaged[digit] == b'1' { b'2' } else { b'1' };
    fs::write(&path, damaged).unwrap();
    assert_eq!(
        fault(home.path(), &["predict", "run", "data.csv"], &["its checksum is wrong"]),
        None,
        "a scale"
    );
}
