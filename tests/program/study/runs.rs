//! Runs of a study: killed, failed, refused, lost, and taken up again; and what is said of them.

use super::{PROGRAM, TINY, finished, lines, outcomes, refused, run_folders, study, succeed};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
