//! Settings: what is written can be read back, flags win over the file, and each mistake is named where it was made.

use clap::{CommandFactory, Parser};
use proptest::prelude::*;
use std::path::Path;
use xbm_fast::app::cli::{Cli, Command};
use xbm_fast::app::config::{TrainConfig, TrainFlags, settings};
use xbm_fast::loss::{Gate, Mining, Normalization, PairWeighting};
use xbm_fast::memory::MemoryKind;
use xbm_fast::settings::Kind;

/// The flags of a typed command.
fn typed<T: AsRef<str>>(words: &[T]) -> TrainFlags {
    let line = ["xbm-fast", "train"].into_iter().chain(words.iter().map(AsRef::as_ref));
    match Cli::try_parse_from(line).unwrap().command {
        Command::Train(args) => args.flags,
        other => panic!("{other:?}"),
    }
}

/// Settings from the text of a file and flags.
fn merged(text: &str, flags: &TrainFlags) -> xbm_fast::Result<TrainConfig> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    TrainConfig::merged(Some(&path), flags.table()?)
}

/// The message of settings that must be refused.
#[track_caller]
fn refused(text: &str, flags: &TrainFlags) -> String {
    let message = merged(text, flags).expect_err("these settings are wrong").to_string();
    assert!(!message.contains('\n'), "more than one line: {message}");
    message
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

#[test]
fn the_defaults_survive_being_written_and_read() {
    let written = TrainConfig::default().to_toml();
    assert_eq!(merged(&written, &TrainFlags::default()).unwrap(), TrainConfig::default());
}

#[test]
fn decimal_numbers_are_written_as_they_were_given() {
    let flags = typed(&["--lr=0.001", "--weight-decay=0.0003"]);
    let text = TrainConfig::merged(None, flags.table().unwrap()).unwrap().to_toml();
    assert!(text.lines().any(|line| line == "lr = 0.001"), "{text}");
    assert!(text.lines().any(|line| line == "weight_decay = 0.0003"), "{text}");
}

proptest! {
    #[test]
    fn any_numbers_survive_being_written_and_read(lr in 1e-9f32..10.0, decay in 0.0f32..1.0, gate in -1.0f32..=1.0, seed in 0..i64::MAX as u64) {
        let flags = typed(&[format!("--lr={}", lr), format!("--weight-decay={}", decay), format!("--negative-gate={}", gate), format!("--seed={}", seed)]);
        let config = TrainConfig::merged(None, flags.table().unwrap()).unwrap();
        let expected = if gate > -1.0 { Gate::Above(gate) } else { Gate::None };
        prop_assert_eq!((config.train.optimizer.lr, config.train.optimizer.weight_decay, config.train.weighting.negative.gate, config.train.execution.seed), (lr, decay, expected, seed));
        prop_assert_eq!(merged(&config.to_toml(), &TrainFlags::default()).unwrap(), config);
    }
}

#[test]
fn flags_override_the_file_which_overrides_the_defaults() {
    let flags = typed(&["--steps=7", "--no-flip"]);
    let config = merged("steps = 5\ndim = 32\nmemory = \"cross-batch\"\n", &flags).unwrap();
    assert_eq!(
        (config.train.batch.steps, config.train.model.dim, config.train.memory.kind, config.train.augment.flip),
        (7, 32, MemoryKind::CrossBatch, false)
    );
    assert_eq!(config.train.batch.size, TrainConfig::default().train.batch.size);
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_the_nearest_setting() {
    assert_says(&refused("stepz = 5", &TrainFlags::default()), &["settings.toml", "stepz", "`steps`"]);
    assert_says(&refused("memory-size = 64", &TrainFlags::default()), &["memory-size", "`memory_size`"]);
}

#[test]
fn a_value_that_cannot_be_read_is_named_with_its_file_or_its_flag() {
    let none = TrainFlags::default();
    assert_says(&refused("lr = \"fast\"", &none), &["settings.toml", "lr", "fast"]);
    assert_says(&refused("steps = -3", &none), &["settings.toml", "steps", "-3"]);
    let flags = typed(&["--memory=moment"]);
    assert_says(&refused("", &flags), &["--memory", "`moment`", "`momentum`"]);
    let flags = typed(&["--crop-scale=0.5"]);
    assert_says(&refused("", &flags), &["--crop-scale", "2"]);
}

#[test]
fn a_curve_that_cannot_be_read_is_named_with_its_flag_and_a_suggestion() {
    let flags = typed(&["--positive=konstant:1"]);
    assert_says(&refused("", &flags), &["--positive", "`konstant`", "did you mean `constant`?"]);
    let flags = typed(&["--negative=exp:k=3"]);
    assert_says(&refused("", &flags), &["--negative", "`exp:k=3`", "`s0`"]);
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line() {
    assert_says(&refused("steps = 5\ndim == 3\n", &TrainFlags::default()), &["settings.toml", "line 2"]);
}

#[test]
fn a_missing_file_is_named_once() {
    let message = TrainConfig::merged(Some(Path::new("nowhere.toml")), toml::Table::new()).unwrap_err().to_string();
    assert_eq!(message.matches("nowhere.toml").count(), 1, "{message}");
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_both_values() {
    let cases: [(&str, &[&str]); 20] = [
        ("batch_size = 10\nsamples_per_class = 4", &["--batch-size 10", "--samples-per-class 4", "8 and 12"]),
        ("batch_size = 3\nsamples_per_class = 4", &["--batch-size 3", "4"]),
        ("batch_size = 0", &["--batch-size"]),
        ("batch_size = 64\nmemory_size = 63", &["--memory-size 63", "--batch-size 64"]),
        ("memory_own = \"slot\"\nmemory_enqueue = \"after\"", &["--memory-own slot", "--memory-enqueue before"]),
        ("memory = \"prototype\"\nmemory_own = \"slot\"", &["--memory-own slot", "prototype"]),
        ("memory_average = 1.0", &["--memory-average", "[0, 1)", "1"]),
        ("memory_max_drift = -0.1", &["--memory-max-drift", "-0.1"]),
        ("memory = \"instance\"\nmemory_max_drift = 0.1", &["--memory-max-drift", "cross-batch or momentum"]),
        ("memory_own = \"slot\"\nmemory_max_drift = 0.1", &["--memory-max-drift", "--memory-own instance"]),
        ("momentum = 1.5", &["--momentum", "1.5"]),
        ("crop_scale = [0.0, 1.0]", &["--crop-scale", "0,1"]),
        ("crop_scale = [0.9, 0.5]", &["--crop-scale", "0.9,0.5"]),
        ("holdout = 1.0", &["--holdout", "1"]),
        ("lr = nan", &["--lr", "NaN"]),
        ("lr = 0", &["--lr", "0"]),
        ("weight_decay = inf", &["--weight-decay", "inf"]),
        ("clip_norm = -1.0", &["--clip-norm", "-1"]),
        ("negative_gate = 2.0", &["--negative-gate", "2"]),
        ("log_every = 0", &["--log-every"]),
    ];
    for (text, words) in cases {
        assert_says(&refused(text, &TrainFlags::default()), words);
    }
}

#[test]
fn a_small_memory_is_no_mistake_where_no_memory_is_used() {
    assert_eq!(merged("memory = \"none\"\nmemory_size = 1", &TrainFlags::default()).unwrap().train.memory.size, 1);
}

#[test]
fn a_number_that_toml_cannot_hold_is_refused() {
    let flags = typed(&[format!("--seed={}", u64::MAX)]);
    assert_says(&flags.table().unwrap_err().to_string(), &["--seed", "at most 9223372036854775807", "18446744073709551615"]);
}

#[test]
fn a_weighting_is_chosen_by_name_by_file_and_by_what_differs_from_it() {
    let flags = typed(&[
        "--weighting=multi-similarity:beta=40",
        "--negative-gate=0.25",
        "--negative-mining=hardest:8",
        "--positive-scale=mean",
        "--positive-factor=0.5",
    ]);
    let config = merged("negative_gate = 0.9\nweighting = \"circle\"", &flags).unwrap();
    let mut expected: PairWeighting = "multi-similarity:beta=40".parse().unwrap();
    (expected.negative.gate, expected.negative.mining) = (Gate::Above(0.25), Mining::Hardest(8));
    (expected.positive.scale, expected.positive.factor) = (Normalization::Mean, 0.5);
    assert_eq!(config.train.weighting, expected);
    assert_eq!(merged(&config.to_toml(), &TrainFlags::default()).unwrap(), config, "{}", config.to_toml());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, toml::to_string(&expected).unwrap()).unwrap();
    let flags = typed(&[format!("--weighting={}", path.display())]);
    assert_eq!(merged("", &flags).unwrap().train.weighting, expected);
}

#[test]
fn a_weighting_that_is_unknown_or_contradicts_itself_is_refused() {
    let flags = typed(&["--weighting=tripelt"]);
    assert_says(&refused("", &flags), &["--weighting", "did you mean `triplet`?"]);
    assert_says(&refused("positive_scale = \"product\"", &TrainFlags::default()), &["product", "both sides"]);
}

/// What `train --help` says of each flag: a line that begins with it.
fn help() -> Vec<String> {
    let mut command = Cli::command();
    let text = command.find_subcommand_mut("train").unwrap().render_long_help().to_string();
    let flags = text.replace("\n          ", " ");
    flags.lines().map(str::trim).filter(|line| line.starts_with("--")).map(str::to_owned).collect()
}

#[test]
fn the_help_says_the_unit_and_default_of_every_setting_and_the_values_of_a_choice() {
    let help = help();
    for setting in settings() {
        let flag = if setting.kind == Kind::Switch {
            format!("--{} ", setting.flag())
        } else {
            assert!(!setting.unit.is_empty(), "{} has no unit", setting.key);
            format!("--{} <{}>", setting.flag(), setting.unit)
        };
        let line = help.iter().find(|line| line.starts_with(&flag)).unwrap_or_else(|| panic!("no {flag} in {help:#?}"));
        if setting.kind != Kind::Switch {
            assert_says(line, &[&format!("[default: {}]", setting.default_text())]);
        }
        if let Kind::Choice(values) = setting.kind {
            assert_says(line, &[&format!("[possible values: {}]", values.join(", "))]);
        }
    }
}

#[test]
fn settings_that_need_another_name_a_choice_and_values_of_it() {
    for setting in settings() {
        let Some((other, values)) = setting.needs else { continue };
        let Kind::Choice(names) = settings().iter().find(|setting| setting.key == other).unwrap().kind else {
            panic!("{} needs {other}, which is no choice", setting.key)
        };
        assert!(!values.is_empty() && values.iter().all(|value| names.contains(value)), "{}: {values:?}", setting.key);
    }
}

#[test]
fn a_written_file_holds_every_setting_once_and_the_weighting_as_tables() {
    let written: toml::Table = TrainConfig::default().to_toml().parse().unwrap();
    let sides = |key: &str| key.starts_with("positive") || key.starts_with("negative");
    let mut expected: Vec<&str> = settings().iter().map(|setting| setting.key).filter(|key| !sides(key)).collect();
    expected.sort_unstable();
    assert_eq!(written.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(written["weighting"]["positive"].is_table());
}

#[test]
fn the_last_of_two_equal_flags_wins() {
    let words = [
        "--steps=3",
        "--steps",
        "7",
        "--crop-scale=0.2,0.4",
        "--crop-scale=0.3,0.9",
        "--no-flip",
        "--no-flip",
        "--lr=1",
        "--lr=0.5",
    ];
    let config = merged("steps = 5", &typed(&words)).unwrap().train;
    assert_eq!((config.batch.steps, config.augment.crop_scale, config.augment.flip), (7, [0.3, 0.9], false));
    assert_eq!(config.optimizer.lr, 0.5);
}

#[test]
fn the_last_of_two_equal_flags_wins_in_every_command_and_lists_stay_lists() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).command;
    let Command::Eval(eval) = parse("xbm-fast eval --checkpoint a --checkpoint b --threads 1 --threads 2 --json --json") else {
        panic!()
    };
    assert_eq!((eval.checkpoint.to_str(), eval.device.threads, eval.json), (Some("b"), 2, true));
    let Command::Study(study) = parse("xbm-fast study --out a --out b --seeds 1,2 --precision fp32 --precision bf16") else {
        panic!()
    };
    assert_eq!((study.out.to_str(), study.seeds, study.precision.name()), (Some("b"), Some(vec![1, 2]), "bf16"));
    let Command::Embed(embed) = parse("xbm-fast embed --data a --checkpoint m --out o --out p --split query,gallery --split train")
    else {
        panic!()
    };
    assert_eq!((embed.out.to_str(), embed.split), (Some("p"), vec!["query".to_owned(), "gallery".to_owned(), "train".to_owned()]));
    let Command::Search(search) = parse("xbm-fast search --index a --index b --query x y --top 1 --top 2") else { panic!() };
    assert_eq!((search.index.to_str(), search.query.len(), search.top), (Some("b"), 2, 2));
    for line in [
        "pack --data a --data b --out c --out d",
        "data a --max-megapixels 1 --max-megapixels 2",
        "doctor --precision fp16 --precision fp32",
    ] {
        parse(&format!("xbm-fast {line}"));
    }
}
