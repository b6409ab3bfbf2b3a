//! Steps about what NVIDIA's libraries compute: products by cuBLASLt, convolutions by cuDNN.

use super::inputs::values;
use super::{Values, computed, downloaded, full, unwritten};
use crate::app::selfcheck::compare::Closeness;
use crate::error::Result;
use crate::ops::Backend;
use crate::ops::batch_norm::{Affine, BatchNormGeometry};
use crate::ops::conv::{ConvGeometry, Filter};
use crate::ops::conv_norm::ConvNormInputs;
use crate::ops::linear::{LinearGeometry, LinearGradients};

/// A linear layer and its gradients.
pub fn products<B: Backend>(backend: &B) -> Result<Values> {
    const BATCH: usize = 5;
    const INPUTS: usize = 24;
    const OUTPUTS: usize = 16;
    let geometry = LinearGeometry { batch: BATCH, in_features: INPUTS, out_features: OUTPUTS };
    let weights = INPUTS * OUTPUTS;
    let input = computed(backend, &values("input", BATCH * INPUTS))?;
    let parameters = full(backend, &values("parameters", weights + OUTPUTS))?;
    let gradient = computed(backend, &values("gradient", BATCH * OUTPUTS))?;
    let (mut output, mut back) = (unwritten(backend, BATCH * OUTPUTS)?, unwritten(backend, BATCH * INPUTS)?);
    let mut of_parameters = full(backend, &[9.0; INPUTS * OUTPUTS + OUTPUTS])?;
    let weight = parameters.part(0, weights);
    backend.linear_forward(&geometry, input.all(), weight, parameters.part(weights, OUTPUTS), output.all_mut())?;
    let gradients = LinearGradients { input: back.all_mut(), parameters: of_parameters.all_mut() };
    backend.linear_backward(&geometry, input.all(), weight, gradient.all(), gradients)?;
    Ok(vec![
        downloaded("product", Closeness::Rounded, backend, &output)?,
        downloaded("input gradient", Closeness::Rounded, backend, &back)?,
        downloaded("weight gradient", Closeness::Rounded, backend, &of_parameters)?,
    ])
}

/// Each kind of a ResNet's convolutions: forward, both gradients, and with a batch norm in one.
pub fn convolutions<B: Backend>(backend: &B) -> Result<Values> {
    let sizes = |name, kernel, stride, in_channels| {
        let (height, width, padding) = (6, 5, kernel / 2);
        (name, ConvGeometry { batch: 2, height, width, in_channels, out_channels: 8, kernel, stride, padding })
    };
    // Three channels are padded before a library sees them.
    let kinds =
        [sizes("7x7", 7, 2, 3), sizes("3x3", 3, 1, 8), sizes("3x3 of stride 2", 3, 2, 8), sizes("1x1 of stride 2", 1, 2, 16)];
    let mut found = Vec::new();
    for (name, geometry) in kinds {
        found.extend(convolution(backend, name, &geometry)?);
        found.extend(with_batch_norm(backend, name, &geometry)?);
    }
    Ok(found)
}

fn convolution<B: Backend>(backend: &B, name: &str, geometry: &ConvGeometry) -> Result<Values> {
    let (inputs, filters, outputs) = (geometry.input_len(), geometry.filter_len(), geometry.output_len());
    let (input, filter) = (computed(backend, &values("input", inputs))?, full(backend, &values("filter", filters))?);
    let gradient = computed(backend, &values("gradient", outputs))?;
    let (mut output, mut back) = (unwritten(backend, outputs)?, unwritten(backend, inputs)?);
    let mut of_filter = full(backend, &vec![9.0; filters])?;
    backend.conv_forward(geometry, input.all(), filter.all(), output.all_mut())?;
    backend.conv_backward_input(geometry, gradient.all(), filter.all(), back.all_mut(), false)?;
    backend.conv_backward_input(geometry, gradient.all(), filter.all(), back.all_mut(), true)?;
    backend.conv_backward_filter(geometry, input.all(), gradient.all(), of_filter.all_mut())?;
    Ok(vec![
        downloaded(&format!("output of a {name} convolution"), Closeness::Rounded, backend, &output)?,
        downloaded(&format!("input gradient of a {name} convolution"), Closeness::Rounded, backend, &back)?,
        downloaded(&format!("filter gradient of a {name} convolution"), Closeness::Rounded, backend, &of_filter)?,
    ])
}

fn with_batch_norm<B: Backend>(backend: &B, name: &str, geometry: &ConvGeometry) -> Result<Values> {
    let (outputs, channels) = (geometry.output_len(), geometry.out_channels);
    let input = computed(backend, &values("input", geometry.input_len()))?;
    let filter = full(backend, &values("filter", geometry.filter_len()))?;
    let shortcut = computed(backend, &values("shortcut", outputs))?;
    let (weight, bias) = (full(backend, &values("weight", channels))?, full(backend, &values("bias", channels))?);
    let (mean, variance) = (full(backend, &values("mean", channels))?, full(backend, &vec![9.0; channels])?);
    let norm = BatchNormGeometry { rows: outputs / channels, channels, epsilon: 1e-5, momentum: 0.1, relu: true, synced: false };
    let (mut between, mut output) = (unwritten(backend, outputs)?, unwritten(backend, outputs)?);
    let prepared = Filter::prepared(backend, geometry, filter.all())?;
    let inputs = ConvNormInputs {
        input: input.all(),
        filter: &prepared,
        affine: Affine { weight: weight.all(), bias: bias.all() },
        running: (mean.all(), variance.all()),
        residual: Some(shortcut.all()),
    };
    backend.conv_norm_eval((geometry, &norm), inputs, between.all_mut(), output.all_mut())?;
    Ok(vec![downloaded(&format!("output of a {name} convolution with its batch norm"), Closeness::Rounded, backend, &output)?])
}
