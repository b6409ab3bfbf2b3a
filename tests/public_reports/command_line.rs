//! The same result whatever the machine.

use crate::program::{run, tiny_training};
use xbm_fast::runlog::read_metrics;

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
