//! The network against torchvision's, its architecture and initialisation, its plan of buffers, and its use for inference.

mod architecture;
mod inference;
mod plan;
mod torchvision;

use xbm_fast::device::{Storage, Tensor};
use xbm_fast::model::{Architecture, Depth};
use xbm_fast::rng::Rng;

const DEPTHS: [(&str, Depth); 4] =
    [("resnet18", Depth::ResNet18), ("resnet34", Depth::ResNet34), ("resnet50", Depth::ResNet50), ("resnet101", Depth::ResNet101)];
/// As of the golden runs; see `golden/resnet.py`.
const DIM: usize = 4;

fn uniform(name: &str, len: usize, (low, high): (f64, f64)) -> Vec<f32> {
    let mut rng = Rng::new(0).at(name);
    (0..len).map(|_| (low + (high - low) * f64::from(rng.unit())) as f32).collect()
}

fn images<B: Storage>(backend: &B, architecture: &Architecture, batch: usize) -> Tensor<B> {
    Tensor::from_host(backend, &uniform("images", batch * architecture.image().len(), (-1.0, 1.0))).unwrap()
}
