//! Scores of embeddings, all against all.
//!
//! `evaluation`: `rows` and `labels` (files of numbers), `dim`, `threads`. The result is Recall@1, @10, @100, @1000 and MAP@R.

use crate::{Settings, Work};
use xbm_fast::device::Cpu;
use xbm_fast::evaluate::{Embeddings, evaluate_all};

const RANKS: [usize; 4] = [1, 10, 100, 1000];

pub struct AllAgainstAll {
    cpu: Cpu,
    embeddings: Embeddings,
    scores: Vec<f32>,
}

impl AllAgainstAll {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let read = |name| std::fs::read(settings.text(name)).expect("a file of numbers");
        let values = read("rows").chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
        let labels = read("labels").chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
        Ok(Self {
            cpu: Cpu::new(Some(settings.number("threads")))?,
            embeddings: Embeddings::new(values, labels, settings.number("dim"))?,
            scores: Vec::new(),
        })
    }
}

impl Work for AllAgainstAll {
    fn run(&mut self) {
        let scores = evaluate_all(&self.cpu, &self.embeddings).expect("inputs are sound").scores(&RANKS);
        let recall = RANKS.iter().map(|&rank| scores.recall_at(rank).unwrap_or(f64::NAN));
        self.scores = recall.chain([scores.map_at_r]).map(|score| score as f32).collect();
    }

    fn result(&self) -> Vec<f32> {
        self.scores.clone()
    }
}
