//! Runs that stop and go on, and what they must not lose.

use crate::program::{PROGRAM, assert_says, refused, succeed, tiny_training, xbm};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xbm_fast::app::runlog::{StepMetrics, read_metrics};

const SCHEDULE: [&str; 3] = ["--schedule=step", "--schedule-steps=3", "--memory=momentum"];
const STEPS: u64 = 8;

/// A run that was never interrupted, and one that ended after five steps and went on.
struct Runs {
    folder: TempDir,
}

impl Runs {
    fn get() -> &'static Self {
        static RUNS: OnceLock<Runs> = OnceLock::new();
        RUNS.get_or_init(|| {
            let runs = Self { folder: tempfile::tempdir().unwrap() };
            let steps = format!("--steps={STEPS}");
            succeed(&mut tiny_training(&runs.whole(), &[&SCHEDULE[..], &[&steps]].concat()));
            succeed(&mut tiny_training(&runs.resumed(), &[&SCHEDULE[..], &["--steps=5"]].concat()));
            succeed(resume(&runs.resumed()).arg(steps));
            runs
        })
    }

    fn whole(&self) -> PathBuf {
        self.folder.path().join("whole")
    }

    fn resumed(&self) -> PathBuf {
        self.folder.path().join("resumed")
    }
}

fn resume(out: &Path) -> Command {
    let mut command = xbm(&["train", "--resume"]);
    command.arg(out);
    command
}

/// A copy of a finished run, to be spoiled.
fn copy_of(run: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    assert!(Command::new("cp").arg("-R").arg(run.join(".")).arg(copy.path()).status().unwrap().success());
    copy
}

fn checkpoint(out: &Path, step: u64) -> PathBuf {
    out.join(format!("checkpoints/step-{step:06}.safetensors"))
}

/// One number of every logged step after the first.
fn logged<T>(out: &Path, number: impl Fn(&StepMetrics) -> T) -> Vec<T> {
    read_metrics(out).unwrap().iter().filter(|line| line.step > 0).map(number).collect()
}

// github.com/KaiyangZhou/deep-person-reid/issues/270: the learning rate fell from its beginning again.
// github.com/IntelLabs/distiller/issues/145: it was reset by resuming.
// github.com/chainer/chainermn/issues/225: the same.
#[test]
fn the_learning_rate_goes_on_where_it_was() {
    let rates = logged(&Runs::get().resumed(), |line| line.lr.unwrap() as f32);
    assert_eq!(rates, logged(&Runs::get().whole(), |line| line.lr.unwrap() as f32));
    assert!(rates[0] > rates[3] && rates[3] > rates[6], "{rates:?}");
}

// github.com/ifzhang/FairMOT/issues/364: parts of the loss were not in the checkpoint, and it jumped.
// github.com/huggingface/sentence-transformers/pull/2648: the loss of a resumed run was that of an untrained model.
// github.com/kdexd/virtex/issues/18: the order of images began anew, and the loss jumped.
#[test]
fn the_loss_over_the_memory_goes_on_to_the_bit() {
    let losses = |out: &Path| logged(out, |line| (line.step, line.loss, line.memory_loss, line.memory_rows));
    assert_eq!(losses(&Runs::get().resumed()), losses(&Runs::get().whole()));
}

// github.com/tensorflow/tensorboard/issues/3732: a resumed curve went back and was drawn twice.
// github.com/lanpa/tensorboardX/issues/185: events after the resumed step have to be taken back.
// github.com/catalyst-team/catalyst/issues/970: the steps of a resumed run counted from 0.
#[test]
fn every_step_is_logged_once_and_the_event_file_says_from_where_it_goes_on() {
    let out = Runs::get().resumed();
    assert_eq!(logged(&out, |line| line.step), (1..=STEPS).collect::<Vec<_>>());
    let mut events: Vec<PathBuf> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    events.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents"));
    events.sort();
    let restarts = |path: &PathBuf| {
        // An event of step 6 (field 2) that is a session log (field 7) of status START.
        std::fs::read(path).unwrap().windows(6).any(|bytes| bytes == b"\x10\x06\x3a\x02\x08\x01")
    };
    assert_eq!(events.iter().map(restarts).collect::<Vec<_>>(), [false, true]);
}

// github.com/Lightning-AI/pytorch-lightning/issues/688: a checkpoint half written when the program was killed could not be loaded.
// github.com/Lightning-AI/pytorch-lightning/issues/19970: the same again.
#[test]
fn a_half_written_checkpoint_is_not_gone_on_from() {
    let copy = copy_of(&Runs::get().whole());
    let half = &std::fs::read(checkpoint(copy.path(), STEPS)).unwrap()[..5000];
    std::fs::write(copy.path().join("checkpoints/step-000099.safetensors.4711.tmp"), half).unwrap();
    succeed(resume(copy.path()).arg("--steps=9"));
    assert_eq!(logged(copy.path(), |line| line.step).last(), Some(&9));
}

// github.com/pytorch/pytorch/issues/10577: a full disk was reported as a file descriptor that failed.
// github.com/h2oai/h2o-llmstudio/issues/214: it was found out when the checkpoint was saved.
#[cfg(unix)]
#[test]
fn a_disk_without_room_is_named_and_costs_no_older_checkpoint() {
    let copy = copy_of(&Runs::get().whole());
    let before = std::fs::read(checkpoint(copy.path(), STEPS)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" train --steps 9 --resume \"$1\"", PROGRAM]).arg(copy.path());
    assert_says(&refused(&mut command), &["checkpoints/", "too large"]);
    assert!(std::fs::read(checkpoint(copy.path(), STEPS)).unwrap() == before);
}

// github.com/Nerogar/OneTrainer/issues/1147: training went on after the loss was NaN.
// github.com/Rikorose/DeepFilterNet/issues/30: the last checkpoint was NaN, and resuming began with it.
// github.com/Lightning-AI/pytorch-lightning/issues/1008: a score of NaN was compared with, and no later one was best.
#[test]
fn a_loss_that_is_lost_ends_the_run_and_no_checkpoint_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--lr=1e30", "--clip-norm=0", "--steps=20", "--checkpoint-every=1", "--eval-every=1"];
    assert_says(&refused(&mut tiny_training(folder.path(), &flags)), &["step ", "--lr"]);
    for entry in std::fs::read_dir(folder.path().join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = file.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
        let numbers = |bytes: &[u8]| bytes.chunks_exact(4).all(|four| f32::from_le_bytes(four.try_into().unwrap()).is_finite());
        floats.for_each(|(name, tensor)| assert!(numbers(tensor.data()), "{name} of {}", path.display()));
    }
}

// github.com/kohya-ss/sd-scripts/issues/990: a .ckpt was answered with "HeaderTooLarge".
// github.com/safetensors/safetensors/issues/414: so was a .bin of PyTorch.
// github.com/huggingface/transformers/issues/27923: and nobody knew what to do about it.
#[test]
fn weights_that_pytorch_pickled_are_called_that() {
    let folder = tempfile::tempdir().unwrap();
    // Since 1.6 torch.save writes a zip archive; before, a bare pickle.
    for (name, start) in [("new.ckpt", &b"PK\x03\x04\0\0\x08\x08"[..]), ("old.bin", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")] {
        let file = folder.path().join(name);
        std::fs::write(&file, [start, &[7; 500]].concat()).unwrap();
        let pretrained = format!("--pretrained={}", file.display());
        let message = refused(&mut tiny_training(&folder.path().join("run"), &[&pretrained, "--dim=1000"]));
        assert_says(&message, &[name, "PyTorch", "safetensors"]);
    }
}

// github.com/pytorch/pytorch/issues/3805: weights of a parallel model have `module.` before each name, and load nowhere else.
// github.com/mks0601/3DMPPE_POSENET_RELEASE/issues/41: what that prefix is had to be found out.
#[test]
fn weights_of_a_parallel_model_are_called_that() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(Runs::get().whole().join("checkpoints/best.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = file.iter().map(|(name, tensor)| (format!("module.{name}"), tensor));
    let parallel = folder.path().join("parallel.safetensors");
    std::fs::write(&parallel, safetensors::serialize(renamed, None).unwrap()).unwrap();
    let message = refused(&mut tiny_training(&folder.path().join("run"), &[&format!("--pretrained={}", parallel.display())]));
    assert_says(&message, &["parallel.safetensors", "module.bn1.weight", "DataParallel"]);
}

/// Starts a command and waits until a run has logged `step`.
fn start(mut command: Command, out: &Path, step: u64) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !read_metrics(out).is_ok_and(|lines| lines.last().is_some_and(|last| last.step >= step)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "step {step} was not reached");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap().success());
}

// github.com/open-mmlab/mmdetection/issues/95: what was trained since the last checkpoint was lost by an interruption.
// github.com/goodfire-ai/spd/issues/677: the checkpoint at SIGTERM was not written in any of six preemptions.
#[cfg(unix)]
#[test]
fn a_run_that_is_told_to_end_saves_the_step_it_has_reached() {
    let folder = tempfile::tempdir().unwrap();
    let command = tiny_training(folder.path(), &["--steps=100000", "--checkpoint-every=0", "--eval-every=0"]);
    let mut child = start(command, folder.path(), 3);
    // Not SIGINT, which is ignored in what a script starts in the background, tests included.
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let last = read_metrics(folder.path()).unwrap().last().unwrap().step;
    assert!(checkpoint(folder.path(), last).is_file(), "after step {last}");
}

// github.com/gem/oq-engine/pull/4027: a handler took the place of the ignored signal that nohup hands on.
// github.com/houtianze/bypy/pull/183: work under nohup ended with its terminal.
// github.com/open-mmlab/mmsegmentation/issues/1998: so did training.
#[cfg(unix)]
#[test]
fn a_run_under_nohup_does_not_end_with_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let program = tiny_training(folder.path(), &["--steps=30", "--eval-every=0"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    let mut child = start(command, folder.path(), 1);
    send("HUP", &child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(logged(folder.path(), |line| line.step).last(), Some(&30));
}

// github.com/mosaicml/composer/issues/1384: what resuming a finished run does.
#[test]
fn a_finished_run_that_is_resumed_says_that_it_is_finished_and_how_it_goes_on() {
    let copy = copy_of(&Runs::get().whole());
    let said = succeed(&mut resume(copy.path())).both();
    assert_says(&said, &["all 8 steps", "--steps"]);
    assert_eq!(logged(copy.path(), |line| line.step), (1..=STEPS).collect::<Vec<_>>());
}
