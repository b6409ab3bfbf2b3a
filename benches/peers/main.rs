//! The engine's side of `benches/peers/run.py`, which starts it with pipes and asks for one run of a case at a time, in turn with its
//! peers. Every line read is a JSON object, and is answered by one:
//!
//! ```text
//! {"open": "pair_loss", ...}   what to run, as the modules say          -> facts of the case
//! {"run": 3}                   runs it so often                         -> seconds, processor seconds and peak memory
//! {"result": "FILE"}           writes what the last run computed        -> {}
//! ```

mod clock;
mod evaluation;
#[path = "../fixtures/network.rs"]
mod fixture_network;
#[path = "../fixtures/pair_loss.rs"]
mod fixture_pair_loss;
#[path = "../fixtures/photographs.rs"]
mod fixture_photographs;
mod input;
mod machine;
mod network;
mod pair_loss;

use serde_json::{Value, json};
use std::io::BufRead;

/// A case that can be run again and again.
trait Work {
    fn run(&mut self);

    /// What the last run computed, to be compared with the peers' before anything is timed.
    fn result(&self) -> Vec<f32> {
        Vec::new()
    }

    /// What the peers should know.
    fn facts(&self) -> Value {
        json!({})
    }
}

/// The settings of a case, as `run.py` sent them.
struct Settings(Value);

impl Settings {
    fn number(&self, name: &str) -> usize {
        self.0[name].as_u64().unwrap_or_else(|| panic!("a number `{name}`")) as usize
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("a text `{name}`"))
    }
}

fn open(settings: &Settings) -> xbm_fast::Result<Box<dyn Work>> {
    Ok(match settings.text("open") {
        "pair_loss" => Box::new(pair_loss::AgainstMemory::open(settings)?),
        "memory" => Box::new(pair_loss::LargeMemory::open(settings)?),
        "multiply_add" => Box::new(machine::MultiplyAdd::open(settings)?),
        "training" => Box::new(network::Training::open(settings)?),
        "inference" => Box::new(network::Inference::open(settings)?),
        "evaluation" => Box::new(evaluation::AllAgainstAll::open(settings)?),
        "input" => Box::new(input::Input::open(settings)?),
        other => panic!("no case `{other}`"),
    })
}

/// Runs the case. Processor time is counted from the end of the last run, so that what threads did ahead in between is not free.
fn measure(work: &mut dyn Work, times: u64, last: &mut clock::Reading) -> Value {
    let before = clock::Reading::now();
    (0..times).for_each(|_| work.run());
    let after = clock::Reading::now();
    let (wall, processor) = (after.wall_since(&before), after.processor_since(last));
    *last = after;
    json!({ "seconds": wall, "processor_seconds": processor, "peak_megabytes": clock::peak_megabytes() })
}

fn main() {
    let mut work: Option<Box<dyn Work>> = None;
    let mut last = clock::Reading::now();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("lines of text");
        let request: Value = serde_json::from_str(&line).expect("a JSON object");
        let answer = if request.get("open").is_some() {
            let opened = open(&Settings(request)).unwrap_or_else(|error| panic!("{error}"));
            last = clock::Reading::now();
            work.insert(opened).facts()
        } else {
            let work = work.as_mut().expect("`open` comes first");
            match (request["run"].as_u64(), request["result"].as_str()) {
                (Some(times), _) => measure(work.as_mut(), times, &mut last),
                (_, Some(path)) => {
                    let bytes: Vec<u8> = work.result().iter().flat_map(|value| value.to_le_bytes()).collect();
                    std::fs::write(path, bytes).expect("the folder can be written to");
                    json!({})
                }
                _ => panic!("no request: {line}"),
            }
        };
        println!("{answer}");
    }
}
