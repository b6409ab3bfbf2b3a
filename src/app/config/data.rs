//! What a run reads: its data set, how that is split, and the weights it starts from.

use crate::app::data::DEFAULT_MAX_MEGAPIXELS;
use crate::app::data::loader::DEFAULT_MAX_UNREADABLE;
use crate::settings::Range::{AtLeast, Closed, HalfOpen};
use crate::settings::{choice, settings};
use std::path::PathBuf;

choice! {
    /// What a run's score is of.
    pub enum ScoredOn {
        /// The test images, or the queries and the gallery.
        Test = "test",
        /// The validation classes; the test images are left out.
        Validation = "validation",
    }
}

settings! {
    /// What a run reads.
    pub struct DataSettings in "Data" {
        /// Data: synthetic[:classes=..,views=..,size=..,seed=..], or sop, inshop, deepfashion2, cub, cars, vehicleid, folder, csv or packed
        /// and :PATH.
        "data" => spec: String = "synthetic".to_owned(), unit("SPEC");
        /// Start from published ResNet weights under torchvision's or timm's names; their classifier is dropped.
        "pretrained" => pretrained: PathBuf = PathBuf::new(), unit("FILE.safetensors"), empty("random weights"), under("Network");
        /// Share of the classes held out for testing, where the data has no split of its own; 0 trains on everything, and nothing is
        /// scored.
        "holdout" => holdout: f32 = 0.5, unit("SHARE"), within(HalfOpen(0.0, 1.0));
        /// Share of the training classes that the best checkpoint is chosen on, instead of being trained on; 0 chooses it on the test images.
        "validation" => validation: f32 = 0.0, unit("SHARE"), within(HalfOpen(0.0, 1.0));
        /// What the score is of: the test images, or the validation classes, to choose settings by.
        "score_on" => score_on: ScoredOn = ScoredOn::Test, unit("IMAGES");
        /// Take queries and gallery as one set of pictures: a query finds neither itself nor a copy of itself.
        "same_set" => same_set: bool = false;
        /// Memory for decoded images.
        "cache_mb" => cache_mb: usize = 1024, unit("MB");
        /// Largest share of images, of those trained on and of those tested, that may be unreadable; they are replaced or left out, counted
        /// and listed.
        "max_unreadable" => max_unreadable: f32 = DEFAULT_MAX_UNREADABLE, unit("SHARE"), within(Closed(0.0, 1.0));
        /// Largest image that is decoded, in millions of pixels.
        "max_megapixels" => max_megapixels: u32 = DEFAULT_MAX_MEGAPIXELS, unit("MPX"), within(AtLeast(1.0));
    }
}
