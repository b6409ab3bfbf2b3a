//! Loading and augmenting photographs.
//!
//! `input`: `photographs` (a folder of classes), `packed` (a file to be written) and `kind` (`jpeg` or `packed_raw`). A run is one batch.

use crate::fixture_photographs::{BATCH, Feed, specs};
use crate::{Settings, Work};
use serde_json::{Value, json};
use std::path::Path;

pub struct Input(Feed);

impl Input {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let (kind, packed) = (settings.text("kind"), Path::new(settings.text("packed")));
        let specs = specs(Path::new(settings.text("photographs")), packed)?;
        let spec = specs.iter().find_map(|(name, spec)| (*name == kind).then_some(spec));
        Ok(Self(Feed::new(spec.unwrap_or_else(|| panic!("no kind `{kind}`")))?))
    }
}

impl Work for Input {
    fn run(&mut self) {
        self.0.next().expect("photographs can be read");
    }

    fn facts(&self) -> Value {
        json!({ "images": BATCH })
    }
}
