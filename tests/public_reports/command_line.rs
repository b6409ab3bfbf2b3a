//! Printing into pipes that close, and writing over files that somebody needs.

use crate::pictures::{flat, write};
use crate::program::{refused, run, tiny_training, xbm};
use std::process::Command;
use xbm_fast::app::runlog::read_metrics;

/// What a command says on stderr whose reader is gone before it begins.
fn into_a_closed_pipe(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

// github.com/sharkdp/fd/issues/24: a closed pipe was a panic.
// github.com/rustic-rs/rustic/issues/1915: so it was with every listing into head.
// github.com/medialab/xan/issues/759: and scripts saw a failure.
#[test]
fn a_reader_that_has_seen_enough_ends_a_listing_quietly() {
    for arguments in [&["data", "synthetic"][..], &["data", "synthetic", "--json"], &["weights", "contrastive", "triplet"]] {
        let (code, said) = into_a_closed_pipe(xbm(arguments));
        assert!(code.is_none_or(|code| code == 0 || code == 141), "{arguments:?}: {code:?}, {said}");
        assert!(!said.contains("panicked") && !said.contains("error:"), "{arguments:?}: {said}");
    }
}

// github.com/mjmlio/mjml/issues/1775: the input was overwritten by completing the name of the output.
#[test]
fn a_file_that_is_read_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1.png", "2.png"] {
        write(folder.path(), name, &flat([5, 5, 5]));
    }
    let table = folder.path().join("labels.csv");
    let text = "path,label,split\n1.png,a,train\n2.png,b,train\n";
    std::fs::write(&table, text).unwrap();
    let data = format!("--data=csv:{}", table.display());
    refused(xbm(&["pack", &data, "--out"]).arg(&table));
    assert_eq!(std::fs::read_to_string(&table).unwrap(), text);
}

// github.com/jupytext/jupytext/issues/113: an existing file of the output's name was overwritten without a word.
// github.com/microsoft/winml-cli/issues/561: yesterday's result was gone; it should take --force.
#[test]
fn somebody_elses_file_is_not_written_over_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let drawing = folder.path().join("curves.svg");
    std::fs::write(&drawing, "a drawing of days").unwrap();
    let weights = || {
        let mut command = xbm(&["weights", "contrastive", "--out"]);
        command.arg(&drawing);
        command
    };
    let message = refused(&mut weights());
    assert!(message.contains("curves.svg") && message.contains("--force"), "{message}");
    assert_eq!(std::fs::read_to_string(&drawing).unwrap(), "a drawing of days");
    assert_eq!(run(weights().arg("--force")).code, Some(0));
    assert!(std::fs::read_to_string(&drawing).unwrap().contains("<svg"));
}

// github.com/pytorch/pytorch/issues/7068: with all seeds set, another number of workers gave another result.
// github.com/meta-pytorch/torchtune/issues/168: so did workers as against none.
#[test]
fn the_number_of_threads_changes_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let losses = |threads: &str| -> Vec<Option<f64>> {
        let out = folder.path().join(threads);
        assert_eq!(run(&mut tiny_training(&out, &[&format!("--threads={threads}")])).code, Some(0));
        read_metrics(&out).unwrap().iter().map(|line| line.loss).collect()
    };
    assert_eq!(losses("1"), losses("3"));
}
