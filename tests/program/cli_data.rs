//! Data sets from the command line: every layout trains and is scored, packed files train to the same bits, and what is in a data set
//! can be asked for first.


use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;
use crate::support::layouts::{self, Tree};
use xbm_fast::app::runlog::{StepMetrics, read_metrics};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// What a command that must succeed prints on stdout and on stderr.
#[track_caller]
fn succeed(arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "expected `{word}` in: {text}");
    }
}

/// A few steps on tiny images.
fn train(spec: &str, out: &Path) {
    let out = out.to_str().unwrap();
    let fixed = ["--steps=3", "--image-size=16", "--dim=8", "--batch-size=8", "--samples-per-class=2", "--memory-size=16"];
    let rest = ["--memory-start=1", "--eval-every=2", "--log-every=1", "--threads=2"];
    succeed(&[&["train", "--data", spec, "--out", out][..], &fixed, &rest].concat());
}

/// The log without what depends on time.
fn log(out: &Path) -> Vec<StepMetrics> {
    let timeless = |metrics| StepMetrics { images_per_second: None, data_wait: None, seconds: None, ..metrics };
    read_metrics(out).unwrap().into_iter().map(timeless).collect()
}

/// All tensors of the last checkpoint: network, moments, memory, its ids and labels.
fn tensors(out: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(out.join("checkpoints/step-000003.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
    all.sort();
    all
}

#[test]
fn every_layout_trains_and_is_scored_and_trains_to_the_same_bits_when_packed() {
    for (number, tree) in layouts::all().into_iter().enumerate() {
        let (spec, runs) = (tree.spec(), tempfile::tempdir().unwrap());
        let ranks = Value::from(xbm_fast::app::data::Dataset::open(&spec, &Default::default()).unwrap().protocol.recall_at);
        let packed = runs.path().join("set.xbm");
        // Both encodings take turns.
        let encoding = ["raw", "jpeg"][number % 2];
        succeed(&["pack", "--data", &spec, "--out", packed.to_str().unwrap(), "--encoding", encoding]);
        let (packed_spec, from_packed, from_files) =
            (format!("packed:{}", packed.display()), runs.path().join("packed"), runs.path().join("files"));
        train(&packed_spec, &from_packed);
        train(&spec, &from_files);
        assert_eq!(log(&from_packed), log(&from_files), "{spec}");
        assert!(tensors(&from_packed) == tensors(&from_files), "{spec}");

        let best = from_files.join("checkpoints/best.safetensors");
        let score = |spec: &str| {
            let printed = succeed(&["eval", "--json", "--data", spec, "--checkpoint", best.to_str().unwrap()]).0;
            let mut report: Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(report.as_object_mut().unwrap().remove("data"), Some(Value::from(spec)));
            report
        };
        let found = score(&packed_spec);
        assert_eq!(found, score(&spec));
        let found: Vec<Value> = found["recall"].as_array().unwrap().iter().map(|pair| pair[0].clone()).collect();
        assert_eq!(Value::from(found), ranks, "{spec}");
    }
}

#[test]
fn data_says_what_is_there_before_anyone_trains() {
    let tree = layouts::inshop();
    fs::remove_file(tree.root().join("Img/img/WOMEN/Blouses_Shirts/id_00000003/00_1_front.jpg")).unwrap();
    let (said, _) = succeed(&["data", &tree.spec()]);
    assert_says(
        &said,
        &[
            "14 images of 7 classes",
            "train    8 images of 5 classes, 1 to 2 a class, median 2",
            "query    2 images of 2 classes",
            "gallery  4 images of 2 classes, 2 to 2 a class",
            "Recall@1/10/20/30/40/50: queries search the gallery",
            "id_00000003/00_1_front.jpg: listed in list_eval_partition.txt, but there is no such file",
        ],
    );
    let (json, _) = succeed(&["data", &tree.spec(), "--json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&found["images"], &found["skipped"][0]["count"]), (&Value::from(14), &Value::from(1)));
    assert_eq!(found["splits"][0]["histogram"], serde_json::json!([[1, 1, 2], [2, 2, 3]]));
    assert!(found.get("unreadable").is_none());
}

#[test]
fn data_groups_what_was_left_out_by_reason_and_says_what_to_know_before_comparing() {
    let (said, _) = succeed(&["data", &layouts::deepfashion2().spec()]);
    assert_says(&said, &["left out: 8 files, the first ", "style 0", "note: ", "ground-truth boxes", "16 images are cut out"]);
}

#[test]
fn data_decodes_everything_when_asked_and_lists_what_cannot_be_read() {
    let tree = layouts::folder();
    let spec = tree.spec();
    assert_says(&succeed(&["data", "--decode", &spec]).0, &["decoded all 16: 0 cannot be read"]);
    tree.text("class 3/0.JPG", "no image");
    let output = run(&["data", "--decode", &spec]);
    assert_eq!(output.status.code(), Some(1));
    assert_says(&String::from_utf8(output.stdout).unwrap(), &["1 cannot be read", "class 3/0.JPG", "expected an image"]);
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["error:", "1 of 16 images cannot be read"]);
}

#[test]
fn pack_says_what_it_packed_and_refuses_what_it_cannot() {
    let tree = layouts::folder();
    tree.text("class 3/0.JPG", "no image");
    let out = tree.root().with_extension("xbm");
    let pack = ["pack", "--data", &tree.spec(), "--out", out.to_str().unwrap()];
    let output = run(&pack);
    assert_eq!(output.status.code(), Some(1));
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["1 of 16 images", "class 3/0.JPG", "--max-unreadable"]);
    assert!(!out.exists());
    let (_, said) = succeed(&[&pack[..], &["--max-unreadable=0.1", "--short-side=8"]].concat());
    assert_says(&said, &["left out", "class 3/0.JPG", "packed    15 images", &format!("--data packed:{}", out.display())]);
    fs::write(&out, &fs::read(&out).unwrap()[..5000]).unwrap();
    let output = run(&["data", &format!("packed:{}", out.display())]);
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["error:", ".xbm", "truncated"]);
    fs::remove_file(out).unwrap();
}

#[test]
fn too_many_unreadable_images_end_a_run_unless_they_are_allowed() {
    let tree: Tree = layouts::folder();
    tree.text("class 3/0.JPG", "no image");
    let out = tempfile::tempdir().unwrap();
    let flags = |share: &str, out: &Path| {
        let fixed = ["--steps=3", "--image-size=16", "--dim=8", "--batch-size=8", "--samples-per-class=2", "--memory=none"];
        let own = [format!("--data={}", tree.spec()), format!("--out={}", out.display()), format!("--max-unreadable={share}")];
        fixed.map(str::to_owned).into_iter().chain(own).collect::<Vec<String>>()
    };
    let train = |share: &str, out: &Path| Command::new(PROGRAM).arg("train").args(flags(share, out)).output().unwrap();
    let refused = train("0.05", &out.path().join("refused"));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_says(&said, &["error:", "1 of 8", "cannot be read", "more than the 5.0 % of --max-unreadable", "class 3/0.JPG"]);
    let allowed = train("0.2", &out.path().join("allowed"));
    assert!(allowed.status.success());
    assert_says(&String::from_utf8(allowed.stderr).unwrap(), &["left out", "class 3/0.JPG"]);
    assert_says(&fs::read_to_string(out.path().join("allowed/report.html")).unwrap(), &["class 3/0.JPG"]);
    let nonsense = train("2", &out.path().join("nonsense"));
    assert_says(&String::from_utf8(nonsense.stderr).unwrap(), &["--max-unreadable must be in [0, 1], found 2"]);
}
