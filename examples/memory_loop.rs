//! A training loop of one's own: a linear embedding learns to tell classes apart that differ in a few of many noisy features, from
//! batches that hold no two of most classes. Their positives are in the memory.
//!
//! `cargo run --release --example memory_loop`

use xbm_fast::{
    Anchors, Cpu, EmbeddingMemory, Embeddings, LossSettings, NumberFormat, PairLossOutputs, PairWeighting, Rng, SelfPairs, Span,
    SpanMut, Storage, evaluate_all,
};

const FEATURES: usize = 64;
/// Features that depend on the class.
const SIGNAL: usize = 8;
const DIM: usize = 16;
/// Classes trained on; as many again are only evaluated.
const CLASSES: usize = 50;
const BATCH: usize = 32;
const CAPACITY: usize = 512;
const STEPS: usize = 300;
const RATE: f32 = 0.003;

/// What is trained: `(DIM, FEATURES)`.
struct Linear(Vec<f32>);

impl Linear {
    /// Appends the unit embedding of an item; returns its length before normalisation.
    fn embed(&self, features: &[f32], embeddings: &mut Vec<f32>) -> f32 {
        let product = |row: &[f32]| row.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f32>();
        let values: Vec<f32> = self.0.chunks(FEATURES).map(product).collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        embeddings.extend(values.iter().map(|value| value / length));
        length
    }

    /// A step of gradient descent through the normalisation: `dz = (g - f (f . g)) / |z|`.
    fn descend(&mut self, features: &[f32], (embedding, length): (&[f32], f32), gradient: &[f32]) {
        let radial: f32 = embedding.iter().zip(gradient).map(|(f, g)| f * g).sum();
        for (row, (f, g)) in self.0.chunks_mut(FEATURES).zip(embedding.iter().zip(gradient)) {
            let step = RATE * (g - f * radial) / length;
            row.iter_mut().zip(features).for_each(|(weight, feature)| *weight -= step * feature);
        }
    }
}

/// Features of an item: its class in the first few, noise in all.
fn item(centres: &[f32], class: usize, rng: &mut Rng) -> Vec<f32> {
    let centre = &centres[class * SIGNAL..][..SIGNAL];
    (0..FEATURES).map(|i| centre.get(i).unwrap_or(&0.0) + 0.3 * rng.normal()).collect()
}

/// Recall@1 on classes that are never trained on.
fn score(cpu: &Cpu, model: &Linear, centres: &[f32]) -> xbm_fast::Result<f64> {
    let (mut rng, mut values) = (Rng::new(0).at("gallery"), Vec::new());
    let classes: Vec<usize> = (0..8 * CLASSES).map(|image| CLASSES + image % CLASSES).collect();
    for &class in &classes {
        model.embed(&item(centres, class, &mut rng), &mut values);
    }
    let labels = classes.iter().map(|&class| class as i32).collect();
    let scores = evaluate_all(cpu, &Embeddings::new(values, labels, DIM)?)?.scores(&[1]);
    Ok(scores.recall[0].1)
}

fn main() -> xbm_fast::Result<()> {
    let cpu = Cpu::new(None)?;
    let weighting = PairWeighting::default().valid()?;
    let mut memory = EmbeddingMemory::new(&cpu, CAPACITY, DIM)?;
    let mut gradient = cpu.zeros(BATCH * DIM, NumberFormat::Full)?;
    let mut row_losses = cpu.zeros(BATCH, NumberFormat::Full)?;
    let mut kept = cpu.zero_integers(2 * BATCH)?;

    let mut rng = Rng::new(0).at("items");
    let centres: Vec<f32> = (0..2 * CLASSES * SIGNAL).map(|_| 0.6 * rng.normal()).collect();
    let mut model = Linear((0..DIM * FEATURES).map(|_| 0.1 * rng.normal()).collect());
    println!("before training  Recall@1 {:.3}", score(&cpu, &model, &centres)?);

    for step in 1..=STEPS {
        let ids: Vec<i32> = (0..BATCH).map(|row| (step * BATCH + row) as i32).collect();
        let labels: Vec<i32> = ids.iter().map(|id| id % CLASSES as i32).collect();
        let items: Vec<Vec<f32>> = labels.iter().map(|&label| item(&centres, label as usize, &mut rng)).collect();
        let mut embeddings = Vec::new();
        let lengths: Vec<f32> = items.iter().map(|features| model.embed(features, &mut embeddings)).collect();

        // What a trainer of one's own adds: store the batch, compare it with the memory, take the gradient.
        memory.enqueue(&cpu, Span::all(&embeddings), &labels, &ids)?;
        let settings =
            LossSettings { weighting: &weighting, scale: 1.0 / BATCH as f32, self_pairs: SelfPairs::Instance, accumulate: false };
        let anchors =
            Anchors { embeddings: Span::all(&embeddings), labels: Span::all(&labels), ids: Span::all(&ids), soft_labels: None };
        let outputs = PairLossOutputs {
            gradient: SpanMut::all(&mut gradient),
            row_losses: SpanMut::all(&mut row_losses),
            kept: SpanMut::all(&mut kept),
        };
        memory.pair_loss(&cpu, settings, anchors, outputs)?;

        for (row, features) in items.iter().enumerate() {
            let part = row * DIM..(row + 1) * DIM;
            model.descend(features, (&embeddings[part.clone()], lengths[row]), &gradient[part]);
        }
        if step % 100 == 0 {
            let loss = row_losses.iter().sum::<f32>() / BATCH as f32;
            println!("step {step}  loss {loss:.3}  Recall@1 {:.3}", score(&cpu, &model, &centres)?);
        }
    }
    Ok(())
}
