//! The network that turns images into unit embeddings: a ResNet and its embedding head (pool, linear, L2 normalisation).
//!
//! [`Architecture`] says what is computed, [`plan`] where each activation lives, [`Network`] runs it, [`Weights`] are the values it
//! runs with; one network runs both the query encoder and its momentum copy.

mod architecture;
mod arena;
mod backward;
mod network;
pub mod plan;
mod prepared;
mod settings;
mod weights;

pub use architecture::{Architecture, Depth, Extent, Layer, Node, Parameter, Role};
pub use network::Network;
pub use prepared::Prepared;
pub use settings::ModelSettings;
pub use weights::Weights;
