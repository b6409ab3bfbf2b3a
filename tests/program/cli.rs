//! The program as it is typed: runs that are killed, interrupted, repeated and scored, and every mistake with its one line.

use crate::drive::{PROGRAM, TINY, assert_says, error_of, resume, run_until, signal, succeed, train};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use xbm_fast::app::runlog::{StepMetrics, Summary, read_metrics};
use xbm_fast::checkpoint::{NetworkHeader, save_model};
use xbm_fast::device::Cpu;
use xbm_fast::model::Weights;
use xbm_fast::train::TrainSettings;

fn checkpoint(out: &Path, step: u64) -> PathBuf {
    out.join(format!("checkpoints/step-{step:06}.safetensors"))
}

fn best(out: &Path) -> PathBuf {
    out.join("checkpoints/best.safetensors")
}

/// Tensors and header of a checkpoint.
fn contents(path: &Path) -> (BTreeMap<String, Vec<u8>>, serde_json::Value) {
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let header = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["xbm-fast"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    (file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect(), header)
}

/// Equal runs write equal files; where they do not, says what differs.
#[track_caller]
fn assert_same_checkpoint(found: &Path, expected: &Path) {
    if std::fs::read(found).unwrap() == std::fs::read(expected).unwrap() {
        return;
    }
    let (found, expected) = (contents(found), contents(expected));
    assert_eq!(found.1, expected.1);
    assert!(found.0.keys().eq(expected.0.keys()), "tensors differ");
    let differing: Vec<&String> =
        found.0.iter().filter(|(name, bytes)| expected.0[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "{} tensors differ, first {}", differing.len(), differing[0]);
    panic!("the same header and tensors, but not the same bytes");
}

/// The log without what depends on time.
fn log(out: &Path) -> Vec<StepMetrics> {
    let timeless = |metrics| StepMetrics { images_per_second: None, data_wait: None, seconds: None, ..metrics };
    read_metrics(out).unwrap().into_iter().map(timeless).collect()
}

#[track_caller]
fn assert_same_run(found: &Path, expected: &Path, step: u64) {
    assert_eq!(log(found), log(expected));
    assert_same_checkpoint(&checkpoint(found, step), &checkpoint(expected, step));
    assert_same_checkpoint(&best(found), &best(expected));
}

fn kill_at(mut command: Command, out: &Path, step: u64) {
    command.stderr(Stdio::null());
    let mut child = run_until(command, out, step);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

/// Kills a run at each of the given logged steps, resumes it each time, and compares the end with that of a run never killed.
fn assert_survives_kills(flags: &[&str], kills: &[u64]) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    // Long enough that no run ends between reaching a logged step and being killed.
    let flags: Vec<&str> = flags.iter().copied().chain(["--steps=40", "--log-every=3"]).collect();
    succeed(train(&whole, &flags));
    for (number, &step) in kills.iter().enumerate() {
        let command =
            if number == 0 { train(&killed, &[&flags[..], &["--checkpoint-every=11"]].concat()) } else { resume(&killed) };
        kill_at(command, &killed, step);
    }
    succeed(resume(&killed));
    assert_same_run(&killed, &whole, 40);
    let seconds: Vec<f64> = read_metrics(&killed).unwrap().into_iter().filter_map(|line| line.seconds).collect();
    assert!(seconds.is_sorted(), "time goes on where it was: {seconds:?}");
    let mut leftovers = std::fs::read_dir(killed.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    assert!(!leftovers.any(|path| path.extension().is_some_and(|extension| extension == "tmp")));
}

#[test]
fn a_killed_run_without_memory_ends_as_if_never_killed() {
    assert_survives_kills(&["--memory=none", "--schedule=plateau"], &[3, 15]);
}

#[test]
fn a_killed_run_with_a_cross_batch_memory_ends_as_if_never_killed() {
    assert_survives_kills(&["--memory=cross-batch", "--memory-enqueue=after", "--schedule=cosine"], &[0, 12, 27]);
}

#[test]
fn a_killed_run_with_a_momentum_memory_ends_as_if_never_killed() {
    assert_survives_kills(&["--memory=momentum", "--optimizer=adam", "--schedule=step", "--schedule-steps=10"], &[24]);
}

#[test]
fn a_killed_run_from_published_weights_ends_as_if_never_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("published.safetensors");
    let backend = Cpu::new(Some(1)).unwrap();
    let mut config = TrainSettings::default();
    (config.execution.seed, config.model.dim) = (9, 1000);
    let weights =
        Weights::initialised(&backend, &NetworkHeader::of(&config).architecture().unwrap(), config.execution.seed).unwrap();
    save_model(&backend, &file, &config, &weights).unwrap();
    let pretrained = format!("--pretrained={}", file.display());
    // One kill before the first checkpoint, in the head's warm-up, and one after both.
    let flags = [&pretrained, "--freeze-batch-norm", "--head-warmup=14", "--backbone-lr-factor=0.1", "--memory=momentum"];
    assert_survives_kills(&[&flags[..], &["--optimizer=adam"]].concat(), &[6, 27]);
}

#[test]
fn an_interrupted_run_saves_says_how_to_go_on_and_ends_as_if_never_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    let flags = ["--memory=cross-batch", "--steps=40", "--log-every=3"];
    succeed(train(&whole, &flags));
    let mut command = train(&stopped, &flags);
    command.stderr(Stdio::piped());
    let mut child = run_until(command, &stopped, 6);
    signal(&child, "TERM");
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(143), "{said}");
    let resume_line = format!("continue with: xbm-fast train --resume {}", stopped.display());
    assert_says(&said, &["interrupted; saved ", &resume_line]);
    assert!(!stopped.join("summary.json").exists());
    succeed(resume(&stopped));
    assert_same_run(&stopped, &whole, 40);
}

#[test]
fn the_score_before_training_is_the_untrained_networks_and_does_not_delay_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let summary = |output: &Output| serde_json::from_slice::<Summary>(&output.stdout).expect("the summary on stdout");
    let untrained = folder.path().join("untrained.safetensors");
    let mut config = TrainSettings::default();
    (config.model.dim, config.model.image_size) = (16, 16);
    let backend = Cpu::new(Some(1)).unwrap();
    let weights =
        Weights::initialised(&backend, &NetworkHeader::of(&config).architecture().unwrap(), config.execution.seed).unwrap();
    save_model(&backend, &untrained, &config, &weights).unwrap();
    let mut eval = Command::new(PROGRAM);
    eval.args(["eval", "--json", TINY[0], "--checkpoint"]).arg(&untrained);
    let scores: serde_json::Value = serde_json::from_slice(&succeed(eval).stdout).unwrap();
    let trained = succeed(train(&folder.path().join("trained"), &["--steps=12", "--log-every=1", "--memory=momentum", "--json"]));
    assert_eq!(summary(&trained).initial_recall_at_1, Some(recall_at_1(&scores)));
    let said = String::from_utf8(trained.stderr).unwrap();
    let said = ["step      1/12", "untrained Recall@1", "step      2/12"].map(|words| said.find(words).expect(words));
    assert!(said.is_sorted(), "{said:?}");
}

#[test]
fn a_run_is_repeated_by_its_settings_file_scored_by_eval_and_left_whole_by_failures() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let output = succeed(train(&first, &["--memory=momentum", "--checkpoint-every=6", "--json"]));
    let summary: Summary = serde_json::from_slice(&output.stdout).expect("nothing but the summary on stdout");
    let logged = log(&first);
    assert_eq!(logged.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10, 12]);
    assert_eq!(summary.recall_at_1, logged.last().unwrap().recall_at_1);
    assert_eq!(summary.initial_recall_at_1, logged[0].recall_at_1);
    assert_eq!((summary.steps, logged[1].lr), (12, Some(0.01)));
    assert!(first.join("report.html").is_file());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["Recall@1 on classes never trained on", "report.html"]);

    let mut command = Command::new(PROGRAM);
    command.arg("train").arg("--config").arg(first.join("config.toml")).arg("--threads=1").current_dir(folder.path());
    let output = succeed(command);
    std::fs::rename(folder.path().join("runs/001"), &second).unwrap();
    assert!(output.stdout.is_empty());
    assert_same_run(&second, &first, 12);

    let recall_of = |path: &Path| {
        let mut command = Command::new(PROGRAM);
        command.args(["eval", "--json", TINY[0], "--checkpoint"]).arg(path);
        let scores: serde_json::Value = serde_json::from_slice(&succeed(command).stdout).unwrap();
        recall_at_1(&scores)
    };
    assert_eq!(Some(recall_of(&checkpoint(&first, 12))), summary.recall_at_1);
    let scored = logged.iter().filter(|line| line.step > 0).filter_map(|line| line.recall_at_1);
    assert_eq!(recall_of(&best(&first)), scored.fold(0.0, f64::max));

    assert_keeps_the_last_good_checkpoint_when_the_loss_is_lost(&second);
    assert_keeps_what_was_written_when_the_disk_is_full(&first);
    assert_refuses_a_checkpoint_that_is_cut_or_of_another_network(&first);
}

fn recall_at_1(scores: &serde_json::Value) -> f64 {
    scores["recall"].as_array().unwrap().iter().find(|pair| pair[0] == 1).unwrap()[1].as_f64().unwrap()
}

fn assert_keeps_the_last_good_checkpoint_when_the_loss_is_lost(out: &Path) {
    let before = std::fs::read(checkpoint(out, 12)).unwrap();
    let mut command = resume(out);
    command.args(["--steps=20", "--lr=1e30", "--clip-norm=0"]);
    assert_says(&error_of(command), &["step 14", "last good checkpoint", "step-000012.safetensors", "--lr"]);
    assert!(std::fs::read(checkpoint(out, 12)).unwrap() == before);
}

fn assert_keeps_what_was_written_when_the_disk_is_full(out: &Path) {
    let before = (std::fs::read(checkpoint(out, 12)).unwrap(), std::fs::read(best(out)).unwrap());
    // No file may grow past a megabyte: a checkpoint does not fit, as on a disk that is nearly full.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" train --resume \"$1\" --steps 14"]).arg(PROGRAM).arg(out);
    assert_says(&error_of(command), &["checkpoints/", "safetensors", "too large"]);
    assert!((std::fs::read(checkpoint(out, 12)).unwrap(), std::fs::read(best(out)).unwrap()) == before);
    assert!(
        std::fs::read_dir(out.join("checkpoints"))
            .unwrap()
            .all(|entry| entry.unwrap().path().extension().unwrap() == "safetensors")
    );
}

fn assert_refuses_a_checkpoint_that_is_cut_or_of_another_network(out: &Path) {
    let mut command = resume(out);
    command.args(["--steps=14", "--dim=8"]);
    assert_says(&error_of(command), &["step-000012.safetensors", "--dim 8", "--dim 16"]);
    let file = std::fs::File::options().write(true).open(checkpoint(out, 12)).unwrap();
    file.set_len(1000).unwrap();
    assert_says(&error_of(resume(out)), &["step-000012.safetensors", "truncated", "train --config"]);
}

#[test]
fn usage_mistakes_exit_with_2_and_a_suggestion() {
    for (flags, words) in [
        (vec!["train", "--batchsize=8"], vec!["--batchsize", "--batch-size"]),
        (vec!["trian"], vec!["trian", "train"]),
        (vec!["train", "--steps=many"], vec!["many", "--steps"]),
        (vec!["train", "--resume=a", "--out=b"], vec!["--resume", "--out"]),
        (vec!["eval"], vec!["--checkpoint"]),
    ] {
        let output = Command::new(PROGRAM).args(&flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert_says(&String::from_utf8(output.stderr).unwrap(), &words);
    }
}

#[test]
fn settings_that_cannot_be_honoured_exit_with_1_and_one_line_and_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--data=synthetik"], &["`synthetik`", "did you mean `synthetic`?"]),
        (&["--data=synthetic:clases=9"], &["clases", "did you mean `classes`?"]),
        (&["--data=folder:/no/such/folder"], &["/no/such/folder", "No such file"]),
        (&["--batch-size=9"], &["--batch-size 9", "--samples-per-class 2", "8 and 10"]),
        (&["--batch-size=64", "--memory-size=64"], &["32 classes", "found 6", "at most 12"]),
        (&["--memory=momentum", "--memory-size=7"], &["--memory-size 7", "--batch-size 8"]),
        (&["--memory=crossbatch"], &["--memory", "`crossbatch`", "`cross-batch`"]),
        (&["--positive=expp:k=1,s0=0"], &["--positive", "did you mean `exp`?"]),
        (&["--negative=linear:a=1"], &["--negative", "`linear:a=1`", "`b`"]),
        (&["--crop-scale=0.9,0.5"], &["--crop-scale", "0.9,0.5"]),
        (&["--seed=18446744073709551615"], &["--seed", "at most 9223372036854775807"]),
        (&["--config=/no/such/file.toml"], &["/no/such/file.toml", "No such file"]),
    ];
    for (flags, words) in cases {
        let message = error_of(train(&out, flags));
        assert_says(&message, words);
        assert_eq!(
            message.matches("No such file").count(),
            words.iter().filter(|word| **word == "No such file").count(),
            "{message}"
        );
        assert!(!out.exists(), "{flags:?} left a folder");
    }
}

#[test]
fn folders_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_says(&error_of(train(&file.join("run"), &[])), &["file/run", "Not a directory", "--out"]);
    assert_says(&error_of(resume(folder.path())), &["holds no run", "config.toml"]);
    std::fs::write(folder.path().join("config.toml"), "").unwrap();
    assert_says(&error_of(train(folder.path(), &[])), &["holds a run already", "--resume"]);
    assert_eq!(std::fs::read(folder.path().join("config.toml")).unwrap(), b"");
    let mut command = Command::new(PROGRAM);
    command.args(["eval", "--checkpoint", "/no/such.safetensors", TINY[0]]);
    assert_says(&error_of(command), &["/no/such.safetensors", "No such file"]);
}

/// A folder data set of `classes` classes of `views` noisy PNGs, split at random.
fn write_images(root: &Path, classes: usize, views: usize) {
    for class in 0..classes {
        let folder = root.join(format!("class-{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for view in 0..views {
            let pixel = |x: u32, y: u32| image::Rgb([(x * 9) as u8, (y * 9 + view as u32 * 20) as u8, class as u8 * 10]);
            image::RgbImage::from_fn(20, 20, pixel).save(folder.join(format!("{view}.png"))).unwrap();
        }
    }
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (out, images) = (folder.path().join("run"), folder.path().join("images"));
    let spec = |kind: &str, path: &Path| format!("--data={kind}:{}", path.display());
    std::fs::create_dir(&images).unwrap();
    assert_says(&error_of(train(&out, &[&spec("folder", &images)])), &["images", "expected images, found none"]);
    let table = folder.path().join("table.csv");
    std::fs::write(&table, "path,class,split\n").unwrap();
    assert_says(&error_of(train(&out, &[&spec("csv", &table)])), &["table.csv", "`label`", "path,class,split"]);
    assert!(!out.exists());
}

#[test]
fn classes_of_one_image_and_an_unreadable_file_are_trained_around_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (out, images) = (folder.path().join("run"), folder.path().join("images"));
    write_images(&images, 24, 3);
    for class in 0..24 {
        // A class of one image, on whichever side of the random split it falls, and every other class whole.
        if class % 6 == 0 {
            std::fs::remove_file(images.join(format!("class-{class}/1.png"))).unwrap();
            std::fs::remove_file(images.join(format!("class-{class}/2.png"))).unwrap();
        }
    }
    std::fs::write(images.join("class-1/1.png"), "no image").unwrap();
    let data = format!("--data=folder:{}", images.display());
    let output = succeed(train(&out, &[&data, "--steps=6"]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["have one image", "class-1/1.png", "expected an image"]);
}
