//! Scores of embeddings from files, all against all: the engine's side of `benches/peers/retrieval.py`.
//!
//! `cargo bench --bench retrieval -- ROWS LABELS DIM THREADS`: raw little-endian 32-bit floats and integers. Prints one JSON object: time,
//! processor time, memory beyond the input, scores.

use std::time::Instant;
use xbm_fast::backend::Cpu;
use xbm_fast::evaluate::{Embeddings, evaluate_all};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [rows, labels, dim, threads] = &arguments[..] else {
        println!("run by benches/peers/retrieval.py with files of its own");
        return;
    };
    let read = |path: &str| std::fs::read(path).expect("a file of numbers");
    let values = read(rows).chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
    let labels = read(labels).chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
    let embeddings = Embeddings::new(values, labels, dim.parse().expect("a number")).expect("as many rows as labels");
    let cpu = Cpu::new(Some(threads.parse().expect("a number"))).expect("threads start");
    let (held, processor, begun) = (status("VmRSS:"), processor_seconds(), Instant::now());
    let scores = evaluate_all(&cpu, &embeddings).expect("scores").scores(&[1, 10, 100, 1000]);
    let seconds = begun.elapsed().as_secs_f64();
    let report = serde_json::json!({
        "seconds": seconds,
        "processor_seconds": processor_seconds() - processor,
        "extra_megabytes": (status("VmHWM:") - held) / 1024.0,
        "recall": scores.recall,
        "map_at_r": scores.map_at_r,
    });
    println!("{report}");
}

/// A line of Linux's account of this process, in KiB; 0 elsewhere.
fn status(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// User and system time of all threads, in hundredths of a second, on Linux; 0 elsewhere.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
