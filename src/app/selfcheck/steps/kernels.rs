//! Steps about the kernels that work on rows, channels and pixels.

use super::inputs::{DIM, distinct, labels, unit_rows, values};
use super::{Values, computed, downloaded, full, unwritten};
use crate::app::selfcheck::compare::{Closeness, Quantity};
use crate::device::{IntegerTensor, Tensor};
use crate::error::Result;
use crate::ops::Backend;
use crate::ops::augment::{Crop, Pixels};
use crate::ops::batch_norm::{Affine, BatchNormBackward, BatchNormGeometry, BatchNormGradients, Statistics};
use crate::ops::l2_normalize::RowGeometry;
use crate::ops::optimizer::{Algorithm, Gradients, OptimizerState, OptimizerStep, ParameterGroup};
use crate::ops::pool::{GlobalPooling, PoolGeometry};
use crate::ops::retrieval::{RetrievalGeometry, RetrievalInputs};

/// Rows to unit length, and the gradient.
pub fn normalisation<B: Backend>(backend: &B) -> Result<Values> {
    let (rows, dim) = (5, 70);
    let geometry = RowGeometry { rows, dim };
    let (input, gradient) = (full(backend, &values("rows", rows * dim))?, full(backend, &values("gradient", rows * dim))?);
    let (mut unit, mut norms) = (Tensor::zeros(backend, rows * dim)?, Tensor::zeros(backend, rows)?);
    let mut back = Tensor::zeros(backend, rows * dim)?;
    backend.l2_normalize_forward(&geometry, input.all(), unit.all_mut(), norms.all_mut())?;
    backend.l2_normalize_backward(&geometry, unit.all(), norms.all(), gradient.all(), back.all_mut())?;
    Ok(vec![
        downloaded("unit rows", Closeness::Summed, backend, &unit)?,
        downloaded("norms", Closeness::Summed, backend, &norms)?,
        downloaded("gradient", Closeness::Summed, backend, &back)?,
    ])
}

/// Batch norm with statistics of the batch and with running ones, and its gradients.
pub fn batch_norm<B: Backend>(backend: &B) -> Result<Values> {
    const ROWS: usize = 12;
    const CHANNELS: usize = 16;
    let len = ROWS * CHANNELS;
    let geometry = BatchNormGeometry { rows: ROWS, channels: CHANNELS, epsilon: 1e-5, momentum: 0.1, relu: true, synced: false };
    let (input, shortcut) = (computed(backend, &values("input", len))?, computed(backend, &values("shortcut", len))?);
    let (weight, bias) = (full(backend, &values("weight", CHANNELS))?, full(backend, &values("bias", CHANNELS))?);
    let affine = || Affine { weight: weight.all(), bias: bias.all() };
    let (mut mean, mut deviation) = (Tensor::zeros(backend, CHANNELS)?, Tensor::zeros(backend, CHANNELS)?);
    let (mut running_mean, mut running_variance) = (Tensor::zeros(backend, CHANNELS)?, full(backend, &[1.0; CHANNELS])?);
    let (mut output, mut again, mut evaluated) = (unwritten(backend, len)?, unwritten(backend, len)?, unwritten(backend, len)?);
    let statistics = Statistics {
        mean: mean.all_mut(),
        inverse_deviation: deviation.all_mut(),
        running_mean: running_mean.all_mut(),
        running_variance: running_variance.all_mut(),
    };
    backend.batch_norm_train(&geometry, input.all(), affine(), Some(shortcut.all()), statistics, output.all_mut())?;
    backend.batch_norm_recompute(&geometry, input.all(), affine(), (mean.all(), deviation.all()), again.all_mut())?;
    let running = (running_mean.all(), running_variance.all());
    backend.batch_norm_eval(&geometry, input.all(), affine(), Some(shortcut.all()), running, evaluated.all_mut())?;

    // Its signs are the rectifier's mask: given, so that rounding turns none.
    let masking = computed(backend, &values("mask", len))?;
    let gradient = computed(backend, &values("gradient", len))?;
    let (mut back, mut residual, mut of_affine) =
        (unwritten(backend, len)?, unwritten(backend, len)?, full(backend, &[9.0; 2 * CHANNELS])?);
    let inputs = BatchNormBackward {
        input: input.all(),
        output: masking.all(),
        output_gradient: gradient.all(),
        weight: weight.all(),
        mean: mean.all(),
        inverse_deviation: deviation.all(),
        frozen: false,
    };
    let gradients = BatchNormGradients { input: back.all_mut(), residual: Some(residual.all_mut()), affine: of_affine.all_mut() };
    backend.batch_norm_backward(&geometry, inputs, gradients)?;
    Ok(vec![
        downloaded("output", Closeness::Rounded, backend, &output)?,
        downloaded("output recomputed", Closeness::Rounded, backend, &again)?,
        downloaded("running mean", Closeness::Summed, backend, &running_mean)?,
        downloaded("running variance", Closeness::Summed, backend, &running_variance)?,
        downloaded("output by running statistics", Closeness::Rounded, backend, &evaluated)?,
        downloaded("input gradient", Closeness::Rounded, backend, &back)?,
        downloaded("gradient of the shortcut", Closeness::Exact, backend, &residual)?,
        downloaded("gradient of scale and shift", Closeness::Summed, backend, &of_affine)?,
    ])
}

/// The stem's maximum, both global poolings, and their gradients.
pub fn poolings<B: Backend>(backend: &B) -> Result<Values> {
    const CHANNELS: usize = 8;
    let geometry = PoolGeometry { batch: 1, height: 5, width: 4, channels: CHANNELS };
    let (inputs, outputs) = (geometry.input_len(), geometry.output_len());
    let input = computed(backend, &distinct("input", inputs))?;
    let gradient = computed(backend, &values("gradient", outputs))?;
    let (mut output, mut back) = (unwritten(backend, outputs)?, unwritten(backend, inputs)?);
    backend.max_pool_forward(&geometry, input.all(), output.all_mut())?;
    backend.max_pool_backward(&geometry, input.all(), gradient.all(), back.all_mut())?;
    let mut found = vec![
        downloaded("maxima", Closeness::Exact, backend, &output)?,
        downloaded("gradient of the maxima", Closeness::Rounded, backend, &back)?,
    ];
    for (pooling, name) in [(GlobalPooling::Avg, "mean"), (GlobalPooling::Max, "global maximum")] {
        let (mut output, mut back) = (unwritten(backend, CHANNELS)?, unwritten(backend, inputs)?);
        let gradient = gradient.part(0, CHANNELS);
        backend.global_pool_forward(&geometry, pooling, input.all(), output.all_mut())?;
        backend.global_pool_backward(&geometry, pooling, input.all(), gradient, back.all_mut())?;
        found.push(downloaded(name, Closeness::Rounded, backend, &output)?);
        found.push(downloaded(&format!("gradient of the {name}"), Closeness::Rounded, backend, &back)?);
    }
    Ok(found)
}

/// Images cut, resized, mirrored and normalised; then once more from where they stay on the device.
pub fn augmentation<B: Backend>(backend: &B) -> Result<Values> {
    const SIZE: usize = 6;
    let (height, width) = (9, 11);
    let images: Vec<Vec<u8>> = (0..2)
        .map(|image| {
            let pixels = values(&format!("image {image}"), height * width * 3);
            pixels.iter().map(|value| (128.0 + 60.0 * value) as u8).collect()
        })
        .collect();
    let pixels: Vec<_> = images.iter().map(|rgb| Pixels { rgb, height, width }).collect();
    let crop = Crop { top: 0.5, left: 1.0, height: 8.0, width: 7.5, sees_surroundings: false, flip: true };
    let crops = [crop, Crop { sees_surroundings: true, flip: false, ..crop }];
    let len = 2 * SIZE * SIZE * 3;
    let (mut fresh, mut again) = (unwritten(backend, len)?, unwritten(backend, len)?);
    let mut images = backend.image_cache(2 * height * width * 3);
    backend.augment_cached(&mut images, &[4, 5], SIZE, &pixels, &crops, fresh.all_mut())?;
    backend.augment_cached(&mut images, &[4, 5], SIZE, &pixels, &crops, again.all_mut())?;
    Ok(vec![
        downloaded("crops", Closeness::Rounded, backend, &fresh)?,
        downloaded("crops of images that stayed", Closeness::Rounded, backend, &again)?,
    ])
}

/// A clipped step of each algorithm, the norm of a gradient, and a moving average.
pub fn optimizer<B: Backend>(backend: &B) -> Result<Values> {
    const LEN: usize = 300;
    /// About half the norm of the gradients in the groups.
    const CLIP_NORM: f32 = 7.5;
    let gradients = full(backend, &values("gradients", LEN))?;
    let mut found = Vec::new();
    for algorithm in [Algorithm::Sgd, Algorithm::Adam, Algorithm::AdamW] {
        let mut parameters = full(backend, &values("parameters", LEN))?;
        let mut first = full(backend, &values("first moment", LEN))?;
        let mut second = full(backend, &[0.5; LEN])?;
        let scaler = full(backend, &[1.0, 0.0, 0.0, 1.0])?;
        let step = OptimizerStep { algorithm, beta1: 0.9, beta2: 0.99, epsilon: 1e-3, step: 3 };
        let group = |start, len| ParameterGroup { start, len, learning_rate: 0.125, weight_decay: 0.25 };
        let state = OptimizerState {
            parameters: parameters.all_mut(),
            first_moment: first.all_mut(),
            second_moment: second.all_mut(),
            scaler: scaler.all(),
        };
        let groups = [group(0, 128), group(131, 100)];
        let norm = backend.squared_norm_of(&groups, gradients.all())?;
        let clipped = Gradients { values: gradients.all(), clip: Some((CLIP_NORM, &norm)) };
        backend.optimizer_step(&step, &groups, clipped, state)?;
        found.push(downloaded(&format!("parameters after {algorithm:?}"), Closeness::Summed, backend, &parameters)?);
        found.push(downloaded(&format!("moment after {algorithm:?}"), Closeness::Summed, backend, &first)?);
    }
    let norm = backend.squared_norm(gradients.all())? as f32;
    let mut average = full(backend, &values("average", LEN))?;
    backend.moving_average(0.75, gradients.all(), average.all_mut())?;
    found.push(Quantity::new("squared norm", Closeness::Summed, vec![norm]));
    found.push(downloaded("moving average", Closeness::Summed, backend, &average)?);
    Ok(found)
}

/// Ranks of the best positives, scores, and nearest neighbours.
pub fn retrieval<B: Backend>(backend: &B) -> Result<Values> {
    const QUERIES: usize = 5;
    const GALLERY: usize = 40;
    const CLASSES: usize = 4;
    const DEPTH: usize = 6;
    let geometry = RetrievalGeometry { queries: QUERIES, gallery: GALLERY, dim: DIM };
    let queries = full(backend, &unit_rows("queries", QUERIES, CLASSES))?;
    let gallery = full(backend, &unit_rows("gallery", GALLERY, CLASSES))?;
    let [mut query_labels, mut own_rows, mut ranks] = three(|| IntegerTensor::zeros(backend, QUERIES))?;
    let mut gallery_labels = IntegerTensor::zeros(backend, GALLERY)?;
    query_labels.upload(backend, &labels(QUERIES, CLASSES))?;
    gallery_labels.upload(backend, &labels(GALLERY, CLASSES))?;
    own_rows.upload(backend, &[0, -1, 2, 17, -1])?;
    let inputs = RetrievalInputs {
        queries: queries.all(),
        query_labels: query_labels.all(),
        gallery: gallery.all(),
        gallery_labels: gallery_labels.all(),
        own_rows: own_rows.all(),
    };
    backend.best_positive_rank(&geometry, inputs, ranks.all_mut())?;
    let scores = backend.score(&geometry, inputs)?;
    let precisions = scores.iter().flatten().map(|score| score.average_precision as f32).collect();
    let (mut rows, mut similarities) = (IntegerTensor::zeros(backend, QUERIES * DEPTH)?, Tensor::zeros(backend, QUERIES * DEPTH)?);
    backend.nearest(&geometry, DEPTH, inputs, rows.all_mut(), similarities.all_mut())?;
    Ok(vec![
        Quantity::integers("ranks", &ranks.to_host(backend)?),
        Quantity::new("average precisions", Closeness::Summed, precisions),
        Quantity::integers("nearest rows", &rows.to_host(backend)?),
        downloaded("similarities", Closeness::Summed, backend, &similarities)?,
    ])
}

fn three<T>(mut make: impl FnMut() -> Result<T>) -> Result<[T; 3]> {
    Ok([make()?, make()?, make()?])
}
