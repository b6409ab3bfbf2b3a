//! Studies: their statistics against golden values, their declaration, and runs that are killed, failed and taken up again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use xbm_fast::app::study::Plan;
use xbm_fast::app::study::plan::{DEFAULT, QUICK};
use xbm_fast::app::study::statistics::{Direction, Spread, Verdict, sign_flip_p, student_quantile, student_within};
use xbm_fast::loss::Gate;

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");
/// Both sides compute in 64 bit.
const ROUNDING: f64 = 1e-12;

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= ROUNDING * expected.abs().max(1.0), "found {found}, expected {expected}");
}

/// Degrees of freedom, probability of -1.7 ..= 1.7, and the 97.5 % quantile, by tests/golden/study.py.
#[test]
fn students_t_equals_scipys() {
    for (freedom, within, quantile) in [
        (1, 0.661493945339334, 12.7062047361747),
        (2, 0.768766573798429, 4.30265272974946),
        (3, 0.81230935844659, 3.18244630528371),
        (4, 0.83564505872995, 2.77644510519779),
        (5, 0.850123213151676, 2.57058183563631),
        (9, 0.876652337856176, 2.2621571627982),
        (30, 0.900522124411483, 2.04227245630124),
    ] {
        assert_near(student_within(1.7, freedom), within);
        assert_near(student_quantile(0.95, freedom), quantile);
    }
}

#[test]
fn the_interval_and_the_sign_flip_p_of_paired_differences_equal_scipys() {
    let differences = [0.031, 0.012, 0.047, -0.004, 0.026];
    let spread = Spread::of(&differences).unwrap();
    let half = spread.half_width().unwrap();
    assert_near(spread.mean - half, -0.00162226771194082);
    assert_near(spread.mean + half, 0.0464222677119408);
    assert_near(sign_flip_p(&differences).unwrap(), 0.125);
}

#[test]
fn the_smallest_sign_flip_p_halves_with_each_seed() {
    for seeds in 1..8 {
        assert_near(sign_flip_p(&vec![0.02; seeds]).unwrap(), 2.0 * 0.5f64.powi(seeds as i32));
    }
    assert_eq!((sign_flip_p(&[]), sign_flip_p(&[0.1; 21])), (None, None));
}

#[test]
fn a_claim_is_judged_by_where_its_interval_lies() {
    use Direction::{Better, NoBetter};
    use Verdict::{Confirmed, NotConfirmed, Undecided};
    // With two values the half width is 12.7 sigma / sqrt 2: 0.0127 for a spread of 0.0014.
    let around = |mean: f64| Spread::of(&[mean - 0.001, mean + 0.001]).unwrap();
    let cases = [(0.05, Confirmed, NotConfirmed), (0.0, Undecided, Undecided), (-0.05, NotConfirmed, Confirmed)];
    for (mean, better, no_better) in cases {
        assert_eq!((Better.judge(&around(mean), 0.01), NoBetter.judge(&around(mean), 0.01)), (better, no_better), "{mean}");
    }
    let certain = Spread { count: 9, mean: 0.004, deviation: 1e-6 };
    assert_eq!(
        (Better.judge(&certain, 0.01), NoBetter.judge(&certain, 0.01)),
        (Confirmed, Confirmed),
        "a gain too small to matter"
    );
    assert_eq!(Better.judge(&Spread::of(&[0.5]).unwrap(), 0.01), Undecided, "one seed decides nothing");
    for equal in [[0.02; 3], [0.0; 3], [0.1 + 0.2, 0.3, 0.3]] {
        let spread = Spread::of(&equal).unwrap();
        assert_eq!((Better.judge(&spread, 0.01), NoBetter.judge(&spread, 0.01)), (Undecided, Undecided), "{equal:?}");
    }
}

#[test]
fn a_fact_needs_all_its_claims() {
    use Verdict::{Confirmed, NotConfirmed, NotTested, Undecided};
    for (claims, expected) in [
        (vec![Confirmed, Confirmed], Confirmed),
        (vec![Confirmed, Undecided], Undecided),
        (vec![Undecided, NotConfirmed, Confirmed], NotConfirmed),
        (vec![Confirmed, NotTested, Undecided], NotTested),
        (vec![NotTested, NotConfirmed], NotConfirmed),
        (vec![], NotTested),
    ] {
        assert_eq!(Verdict::of_all(claims.clone()), expected, "{claims:?}");
    }
}

fn plan(text: &str) -> Plan {
    Plan::parse(text, Path::new("study.toml")).unwrap()
}

#[test]
fn the_built_in_studies_ask_for_what_train_can_do() {
    for text in [DEFAULT, QUICK] {
        let plan = plan(text);
        let variants = plan.variants().unwrap();
        assert!(variants.len() >= 6 && plan.facts.len() >= 5);
        assert_eq!(Plan::parse(&plan.to_toml(), Path::new("again")).unwrap(), plan);
    }
}

#[test]
fn axes_give_every_combination_and_settings_give_the_rest() {
    let text = "title = 't'\nseeds = [0]\nbase = { steps = 7 }\n[[group]]\nname = 'g'\nsettings = { dim = 8 }\n\
                axes = { memory = ['none', 'instance'], negative_gate = [0.1, 0.9] }\n";
    let variants = plan(text).variants().unwrap();
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "g/memory=none,negative_gate=0.1",
            "g/memory=none,negative_gate=0.9",
            "g/memory=instance,negative_gate=0.1",
            "g/memory=instance,negative_gate=0.9"
        ]
    );
    let config = &variants[3].config;
    assert_eq!((config.train.batch.steps, config.train.model.dim, config.train.weighting.negative.gate), (7, 8, Gate::Above(0.9)));
}

#[test]
fn a_declaration_that_cannot_be_run_is_refused_with_its_reason() {
    let group = "[[group]]\nname = 'rule'\n";
    let fact = "[[fact]]\nname = 'F'\nstatement = 's'\nclaim = [{ variant = 'ruel', is = 'better', than = 'rule' }]\n";
    let cases: [(String, &[&str]); 7] = [
        (format!("title = ''\nseeds = []\n{group}"), &["seeds"]),
        (format!("title = ''\nseeds = [1, 1]\n{group}"), &["different `seeds`"]),
        ("title = ''\nseeds = [1]\n".to_owned(), &["[[group]]"]),
        (format!("title = ''\nseeds = [1]\n{group}{group}"), &["two variants", "`rule`"]),
        (format!("title = ''\nseeds = [1]\n{group}settings = {{ stepz = 3 }}\n"), &["variant `rule`", "`steps`"]),
        (format!("title = ''\nseeds = [1]\n{group}settings = {{ seed = 3 }}\n"), &["variant `rule`", "`seed`"]),
        (format!("title = ''\nseeds = [1]\n{group}{fact}"), &["fact F", "`ruel`", "`rule`"]),
    ];
    for (text, words) in cases {
        let error = plan(&text).variants().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let error = Plan::parse("title = ''\nseeds = [1]\ngroups = 3\n", Path::new("mine.toml")).unwrap_err().to_string();
    assert!(error.contains("mine.toml") && error.contains("line 3"), "{error}");
}

/// Three variants of a tiny network, the last of which cannot train.
const TINY: &str = r#"
title = "tiny"
seeds = [0, 1]

[base]
data = "synthetic:classes=12,views=4,size=24"
backbone = "small"
image_size = 16
dim = 16
batch_size = 8
samples_per_class = 2
memory_size = 20
memory_start = 2
steps = 20
log_every = 5
eval_every = 0
checkpoint_every = 0

[[group]]
name = "memory"
axes = { memory = ["none", "momentum"] }

[[group]]
name = "same as no memory"
settings = { memory = "none" }

[[group]]
name = "explodes"
settings = { optimizer = "sgd", lr = 1e30 }

[[fact]]
name = "F"
statement = "A memory helps."
claim = [{ variant = "memory/memory=momentum", is = "better", than = "memory/memory=none" }]
"#;

fn study(folder: &Path) -> Command {
    std::fs::create_dir_all(folder).unwrap();
    let plan = folder.with_extension("toml");
    std::fs::write(&plan, TINY).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("study").arg(&plan).arg("--out").arg(folder).args(["--threads", "2"]);
    command
}

#[track_caller]
fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(folder: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(folder.join("results.csv")).unwrap();
    reader.records().map(Result::unwrap).collect()
}

/// Variant, seed, status and Recall@1 of each run.
fn outcomes(folder: &Path) -> Vec<[String; 4]> {
    lines(folder).iter().map(|line| [0, 2, 3, 4].map(|column| line[column].to_owned())).collect()
}

fn run_folders(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder.join("runs")).map_or(vec![], |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

fn finished(folder: &Path) -> Vec<PathBuf> {
    run_folders(folder).into_iter().filter(|run| run.join("summary.json").exists()).collect()
}

/// Kills a study while it trains its third run, lets it go on, and compares with one that was never killed.
#[test]
fn a_killed_study_goes_on_keeps_what_is_finished_and_records_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    succeed(study(&whole));

    let mut child = study(&killed).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while finished(&killed).len() < 2 || run_folders(&killed).len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "two runs were not finished");
        assert!(child.try_wait().unwrap().is_none(), "the study ended before it was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = finished(&killed);
    let before: Vec<String> = kept.iter().map(|run| std::fs::read_to_string(run.join("summary.json")).unwrap()).collect();
    // The declaration in the folder is enough to go on.
    let mut again = Command::new(PROGRAM);
    again.arg("study").arg("--out").arg(&killed).args(["--threads", "1", "--json"]);
    let output = succeed(again);
    let after: Vec<String> = kept.iter().map(|run| std::fs::read_to_string(run.join("summary.json")).unwrap()).collect();
    assert_eq!(before, after, "finished runs were trained again");
    assert_eq!(outcomes(&killed), outcomes(&whole));

    let found = outcomes(&killed);
    assert_eq!(found.len(), 8);
    for [variant, _, status, recall] in &found {
        let expected = if variant == "explodes" { "failed" } else { "finished" };
        assert_eq!((status.as_str(), recall.is_empty()), (expected, variant == "explodes"), "{variant}");
    }
    assert!(lines(&killed).iter().filter(|line| &line[3] == "failed").all(|line| line[11].contains("--lr")));
    // A variant with the settings of another has its runs.
    assert_eq!(run_folders(&killed).len(), 6);
    assert!(run_folders(&killed).iter().all(|run| !run.join("checkpoints").join("best.safetensors").exists()));

    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["facts"][0]["claims"][0]["differences"].as_array().unwrap().len(), 2);
    let page = std::fs::read_to_string(killed.join("study.html")).unwrap();
    for expected in ["tiny", "A memory helps.", "Failed runs", "explodes, seed 1", "6 of 8 runs finished, 2 failed"] {
        assert!(page.contains(expected), "the page lacks {expected:?}");
    }
    for forbidden in ["<script", "<link", "http://", "https://", "url(", "@import"] {
        assert!(!page.contains(forbidden), "the page contains {forbidden:?}");
    }
}

#[test]
fn a_study_that_cannot_be_declared_ends_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        Command::new(PROGRAM).arg("study").arg(folder.path().join("none.toml")).arg("--out").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("none.toml") && text.trim_end().ends_with(errors[0]), "{text}");
}

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

/// A study in `folder` of a declaration of one's own, which must fail with one line; that line, and all that was said.
#[track_caller]
fn refused(folder: &Path, declaration: &str, flags: &[&str]) -> (String, String) {
    let plan = folder.join("mine.toml");
    std::fs::write(&plan, declaration).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("study").arg(&plan).arg("--out").arg(folder.join("out")).args(["--threads", "2"]).args(flags).current_dir(folder);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    (errors[0].to_owned(), said.clone())
}

#[test]
fn a_study_of_data_that_is_not_there_ends_before_its_first_run_and_goes_on_once_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (error, said) = refused(folder.path(), TINY, &["--data", "folder:phtos"]);
    assert!(error.contains("phtos"), "{error}");
    for unwanted in ["run ", "undecided", "confirmed", "page "] {
        assert!(!said.contains(unwanted), "{said}");
    }
    assert!(run_folders(&folder.path().join("out")).is_empty());

    // A batch of more classes than there are is found before the first run, too.
    let (error, _) = refused(folder.path(), &TINY.replace("batch_size = 8", "batch_size = 16"), &[]);
    assert!(error.contains("variant `memory/memory=none`") && error.contains("--batch-size"), "{error}");

    let mut command = Command::new(PROGRAM);
    std::fs::write(folder.path().join("mine.toml"), TINY).unwrap();
    command.arg("study").arg(folder.path().join("mine.toml")).arg("--out").arg(folder.path().join("out")).args(["--threads", "2"]);
    succeed(command);
    assert_eq!(outcomes(&folder.path().join("out")).iter().filter(|line| line[2] == "finished").count(), 6);
}

#[test]
fn a_study_whose_runs_all_fail_alike_ends_after_a_few_without_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let wild = TINY.replace("steps = 20", "steps = 20\noptimizer = \"sgd\"\nlr = 1e30");
    let (error, said) = refused(folder.path(), &wild, &["--json"]);
    assert!(error.contains("the first 3 runs have failed alike") && error.contains("--lr"), "{error}");
    assert!(error.contains("study --retry --out"), "{error}");
    assert!(!said.contains("undecided") && !said.contains("confirmed"), "{said}");
    let out = folder.path().join("out");
    let results: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["facts"][0]["verdict"], "not-tested");
    let page = std::fs::read_to_string(out.join("study.html")).unwrap();
    assert!(page.contains("not tested") && page.contains("No run has finished.") && !page.contains("100.0 % to 0.0 %"));

    let written = std::fs::read_to_string(out.join("study.toml")).unwrap();
    let calm = |line: &str| if line.starts_with("lr = ") { "lr = 0.01\n".to_owned() } else { format!("{line}\n") };
    std::fs::write(out.join("study.toml"), written.lines().map(calm).collect::<String>()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["study", "--threads", "2", "--out"]).arg(&out);
    succeed(command);
}

#[test]
fn a_run_that_was_refused_is_tried_again_by_itself_and_one_that_failed_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, out) = (folder.path().join("mine.toml"), folder.path().join("out"));
    let group = "\n[[group]]\nname = \"pretrained\"\nsettings = { pretrained = \"weights.safetensors\" }\n\n[[fact]]";
    std::fs::write(&plan, TINY.replacen("\n[[fact]]", group, 1)).unwrap();
    let errors = || {
        let mut command = Command::new(PROGRAM);
        command.arg("study").arg(&plan).arg("--out").arg(&out).args(["--threads", "2"]).current_dir(folder.path());
        let said = String::from_utf8(succeed(command).stderr).unwrap();
        assert!(said.contains("6 of 10 runs finished, 4 failed"), "{said}");
        let of = |variant: &str| lines(&out).iter().find(|line| &line[0] == variant).unwrap()[11].to_owned();
        (of("pretrained"), of("explodes"), said.matches("\nrun ").count())
    };
    let (refused, failed, _) = errors();
    assert!(refused.contains("No such file"), "{refused}");
    std::fs::write(folder.path().join("weights.safetensors"), "none").unwrap();
    let (again, still, runs) = errors();
    assert!(again.contains("safetensors file"), "{again}");
    assert_eq!((still, runs), (failed, 2), "only what was refused is tried again");
}

#[test]
fn a_run_whose_folder_or_scores_are_lost_is_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let plan = TINY.replace("[[group]]\nname = \"explodes\"\nsettings = { optimizer = \"sgd\", lr = 1e30 }\n", "");
    std::fs::write(folder.path().join("mine.toml"), plan).unwrap();
    let study = || {
        let mut command = Command::new(PROGRAM);
        command.arg("study").arg(folder.path().join("mine.toml")).arg("--out").arg(&out).args(["--threads", "2"]);
        succeed(command);
        outcomes(&out)
    };
    let whole = study();
    let runs = finished(&out);
    std::fs::remove_dir_all(&runs[0]).unwrap();
    std::fs::remove_file(runs[1].join("summary.json")).unwrap();
    std::fs::write(runs[2].join("summary.json"), "{").unwrap();
    assert_eq!(study(), whole);
}

#[test]
fn one_seed_gives_scores_and_no_verdict_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = study(&folder.path().join("out"));
    command.args(["--seeds", "0"]);
    let said = String::from_utf8(succeed(command).stderr).unwrap();
    assert!(said.contains("one seed decides nothing") && said.contains("undecided"), "{said}");
}

#[test]
fn variants_without_a_seed_in_common_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let plan = TINY.replace("variant = \"memory/memory=momentum\"", "variant = \"explodes\"");
    std::fs::write(folder.path().join("mine.toml"), plan).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("study").arg(folder.path().join("mine.toml")).arg("--out").arg(folder.path().join("out")).args(["--threads", "2"]);
    let said = String::from_utf8(succeed(command).stderr).unwrap();
    assert!(said.contains("F  not tested") && said.contains("(by 0 of 2 seeds)") && said.contains("--retry"), "{said}");
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

const ON_PHOTOS: &str = r#"
title = "photos"
seeds = [0]

[base]
data = "folder:photos"
backbone = "small"
image_size = 16
dim = 8
batch_size = 4
samples_per_class = 2
memory = "none"
steps = 2
eval_every = 0

[[group]]
name = "one"
"#;

#[test]
fn a_study_says_where_its_data_misleads_and_that_it_changed_between_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str, shade: u8| {
        let path = folder.path().join("photos").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([shade, x as u8 * 9, y as u8 * 9])).save(path).unwrap();
    };
    for (shade, class) in [(0, "train/a"), (60, "train/b"), (120, "test/a"), (180, "test/c")] {
        (0..3).for_each(|view| draw(&format!("{class}/{view}.png"), shade + view * 10));
    }
    draw("test/c/copy.png", 0);
    std::fs::write(folder.path().join("plan.toml"), ON_PHOTOS).unwrap();
    let study = |flags: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["study", "plan.toml", "--out=out", "--threads=1"]).args(flags).current_dir(folder.path());
        let said = String::from_utf8(succeed(command).stderr).unwrap();
        (said, std::fs::read_to_string(folder.path().join("out/study.html")).unwrap())
    };
    let (said, page) = study(&[]);
    assert_eq!(said.matches("1 test image was trained on").count(), 1, "{said}");
    assert!(
        page.contains("1 test image was trained on") && page.contains("Recall@1 on test images of classes trained on"),
        "{page}"
    );
    assert!(!said.contains("changed") && !page.contains("never trained on"));
    draw("train/a/9.png", 200);
    let (said, page) = study(&["--seeds=0,1"]);
    assert!(said.contains("1 of these saw other images than the data holds now"), "{said}");
    assert!(said.contains("folder:photos changed between the runs: 1 and 1") && page.contains("cannot be compared"), "{said}");
}
