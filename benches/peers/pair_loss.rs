//! Pair losses against a memory.
//!
//! `pair_loss`: `regime`, `anchors`, `rows`, `dim`, `threads`. `memory`: the same without a regime, against a memory that was filled batch by
//! batch; facts are its own size and how much was held before it was made.

use crate::fixture_pair_loss::{Case, Outputs, regimes};
use crate::{Settings, Work, clock};
use serde_json::{Value, json};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::loss::PairWeighting;
use xbm_fast::memory::{Anchors, EmbeddingMemory, Exclusion, LossSettings};
use xbm_fast::ops::pair_loss::PairLossOutputs;
use xbm_fast::rng::Rng;

/// The rows of a plain matrix.
pub struct AgainstMemory {
    cpu: Cpu,
    case: Case,
    weighting: PairWeighting,
    outputs: Outputs,
}

impl AgainstMemory {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let dim = settings.number("dim");
        let regime = settings.text("regime");
        let case = Case::new(settings.number("anchors"), settings.number("rows"), dim);
        let weighting = regimes(dim).into_iter().find_map(|(name, weighting)| (name == regime).then_some(weighting));
        Ok(Self {
            cpu: Cpu::new(Some(settings.number("threads")))?,
            outputs: Outputs::new(&case.geometry),
            weighting: weighting.unwrap_or_else(|| panic!("no regime `{regime}`")),
            case,
        })
    }
}

impl Work for AgainstMemory {
    fn run(&mut self) {
        self.case.run(&self.cpu, &self.weighting, &mut self.outputs);
    }

    fn result(&self) -> Vec<f32> {
        self.outputs.gradient.clone()
    }
}

/// The rows of a ring.
pub struct LargeMemory {
    cpu: Cpu,
    memory: EmbeddingMemory<Cpu>,
    anchors: Vec<f32>,
    labels: Vec<i32>,
    outputs: Outputs,
    held_before: f64,
}

/// Rows enqueued at once.
const ENQUEUED: usize = 250;

impl LargeMemory {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let (anchors, rows, dim) = (settings.number("anchors"), settings.number("rows"), settings.number("dim"));
        let cpu = Cpu::new(Some(settings.number("threads")))?;
        let held_before = clock::held_megabytes();
        let mut memory = EmbeddingMemory::new(&cpu, rows, dim)?;
        let small = Case::new(anchors, ENQUEUED.max(anchors), dim);
        let mut rng = Rng::new(0).at("large memory");
        let mut batch = small.memory[..ENQUEUED * dim].to_vec();
        for first in (0..rows).step_by(ENQUEUED) {
            batch.rotate_right(rng.below(ENQUEUED * dim));
            let ids: Vec<i32> = (first..first + ENQUEUED).map(|row| row as i32).collect();
            memory.enqueue(&cpu, Span::all(&batch), &small.labels[..ENQUEUED], &ids)?;
        }
        let outputs = Outputs::new(&small.geometry);
        Ok(Self {
            cpu,
            memory,
            anchors: small.memory[..anchors * dim].to_vec(),
            labels: small.labels[..anchors].to_vec(),
            outputs,
            held_before,
        })
    }
}

impl Work for LargeMemory {
    fn run(&mut self) {
        let settings = LossSettings {
            weighting: &PairWeighting::contrastive().valid().expect("a sound weighting"),
            scale: 1.0,
            exclusion: Exclusion::None,
            accumulate: false,
        };
        let (embeddings, labels) = (Span::all(&self.anchors), Span::all(&self.labels));
        let anchors = Anchors { embeddings, labels, ids: labels, soft_labels: None };
        let outputs = PairLossOutputs {
            gradient: SpanMut::all(&mut self.outputs.gradient),
            row_losses: SpanMut::all(&mut self.outputs.row_losses),
            kept: SpanMut::all(&mut self.outputs.kept),
        };
        self.memory.pair_loss(&self.cpu, settings, anchors, outputs).expect("inputs are sound");
    }

    fn facts(&self) -> Value {
        let ring = (self.memory.capacity() * self.memory.dim() * size_of::<f32>()) as f64 / 1e6;
        json!({ "ring_megabytes": ring, "held_before_megabytes": self.held_before })
    }
}
