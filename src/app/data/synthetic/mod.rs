//! Drawn products: a data set that needs no download, hard enough that a network has to learn something.
//!
//! A class is a product: one of sixteen families (bottle, shirt, lamp, ...) with its own proportions, parts, colours and pattern. A
//! view is a photograph of it: pose, light, background, shadow, something in the way, blur and noise. Colours are shared by many
//! classes and change with the light, so that colour statistics do not identify a product; families are shared too, so that neither
//! does the silhouette. An image is a pure function of seed, class, view and size.

mod paint;
mod product;
mod scene;
mod shape;

use super::Image;
use crate::rng::Rng;

/// The key of a drawn image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Seed of the whole set.
    pub seed: u64,
    /// Which product.
    pub class: usize,
    /// Which photograph of it.
    pub view: usize,
    /// Edge of the image in pixels.
    pub size: usize,
}

impl Drawing {
    /// Draws the image, on the calling thread (about a third of a millisecond at 64 pixels).
    ///
    /// ```
    /// use xbm_fast::app::data::synthetic::Drawing;
    /// let mug = Drawing { seed: 0, class: 1, view: 0, size: 64 };
    /// assert_eq!(mug.draw(), mug.draw());
    /// ```
    pub fn draw(&self) -> Image {
        let root = Rng::new(self.seed).at("synthetic");
        let parts = product::product(self.class, root.at("product").at(self.class));
        let rgb = scene::photograph(&parts, self.size, &root.at("view").at(self.class).at(self.view));
        Image { rgb: rgb.into(), height: self.size, width: self.size }
    }
}

impl std::fmt::Display for Drawing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, class, view, size } = self;
        write!(f, "drawn product {class}, view {view} (seed {seed}, {size} pixels)")
    }
}
