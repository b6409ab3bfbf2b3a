//! The search for settings (`study --tune`).

use super::{PROGRAM, refused, run_folders, succeed};
use std::process::Command;

/// Two settings of the tiny network, one value of which cannot train.
const SEARCH: &str = r#"
title = "tiny"
seeds = [0, 1]

[base]
data = "synthetic:classes=16,views=4,size=24"
validation = 0.5
backbone = "small"
image_size = 16
dim = 16
batch_size = 8
samples_per_class = 2
memory = "none"
steps = 6
log_every = 5
eval_every = 0
checkpoint_every = 0

[[tune]]
name = "a rule"
settings = { optimizer = "sgd" }
axes = { lr = [1e-3, 1e30], negative_gate = [0.1] }
"#;

#[test]
fn a_search_tries_its_values_on_held_out_training_classes_and_leaves_settings_to_train_with() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, out) = (folder.path().join("search.toml"), folder.path().join("out"));
    std::fs::write(&plan, SEARCH).unwrap();
    let search = || {
        let mut command = Command::new(PROGRAM);
        command.args(["study", "--tune", "--threads", "2", "--out"]).arg(&out).arg(&plan);
        succeed(command);
        let json = std::fs::read_to_string(out.join("tune.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    let found = search();
    let trials = found[0]["trials"].as_array().unwrap();
    assert!((4..=6).contains(&trials.len()), "{trials:?}");
    let failed = |trial: &&serde_json::Value| trial["recall_at_1"].is_null();
    let failures: Vec<_> = trials.iter().filter(failed).map(|trial| trial["settings"]["lr"].as_str().unwrap()).collect();
    assert!(!failures.is_empty() && failures.iter().all(|lr| lr.parse::<f64>().unwrap() > 1.0), "{failures:?}");
    let worth = |trial: &serde_json::Value| trial["recall_at_1"]["mean"].as_f64().unwrap_or(-1.0);
    let best = trials.iter().map(worth).fold(-1.0, f64::max);
    let chosen = trials.iter().find(|trial| trial["settings"] == found[0]["chosen"]).unwrap();
    assert_eq!(worth(chosen), best, "the best of all trials is chosen");
    assert_eq!(found[0]["before"]["count"], 2);

    let settings = std::fs::read_to_string(out.join("a-rule.toml")).unwrap();
    let config: xbm_fast::app::config::TrainConfig = toml::from_str(&settings).unwrap();
    assert_eq!(config.data.validation, 0.5, "as declared");
    let runs = run_folders(&out).len();
    assert_eq!(search(), found, "a second search finds its runs again");
    assert_eq!(run_folders(&out).len(), runs);
}

#[test]
fn a_search_none_of_whose_trials_finishes_leaves_no_settings() {
    let folder = tempfile::tempdir().unwrap();
    let wild = SEARCH.replace("axes = { lr = [1e-3, 1e30], negative_gate = [0.1] }", "axes = { lr = [1e30, 1e31] }");
    let wild = wild.replace("settings = { optimizer = \"sgd\" }", "settings = { optimizer = \"sgd\", lr = 1e30 }");
    let (error, _) = refused(folder.path(), &wild, &["--tune"]);
    assert!(error.contains("none of its") && error.contains("--lr"), "{error}");
    assert!(!folder.path().join("out/a-rule.toml").exists());
    let (error, _) = refused(folder.path(), SEARCH, &["--tune", "--data", "folder:phtos"]);
    assert!(error.contains("phtos"), "{error}");
}
