//! Finds the pictures of an index's rows again: by name, and by content where the index knows it. Their positions in the data set mean
//! nothing once an image was added to it or deleted.

use crate::app::data::{Dataset, Decoded, Image, OpenOptions, Source};
use crate::app::index::store::Origin;
use crate::app::index::{IndexedImage, Opened};
use crate::files::name;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// An index that may be opened again while others look at it.
pub type SharedIndex = Arc<RwLock<Arc<Opened>>>;

/// A data set, and the positions of its images by name; or why they cannot be had.
type Named = Result<(Dataset, HashMap<String, Vec<usize>>), String>;

/// Where the pictures of an index are.
pub struct Pictures {
    index: SharedIndex,
    max_megapixels: u32,
    /// Of images that are not files by themselves, by their origin.
    inside: Mutex<HashMap<usize, Arc<Named>>>,
}

impl Pictures {
    /// Of the rows of `index`.
    pub fn of(index: SharedIndex, max_megapixels: u32) -> Self {
        Self { index, max_megapixels, inside: Mutex::default() }
    }

    /// The index as it is now.
    pub fn index(&self) -> Arc<Opened> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The picture at a position of `index`, or why there is none.
    ///
    /// # Errors
    /// That it is gone, was replaced by another one, or cannot be read, in words that follow its name.
    pub fn find(&self, index: &Opened, position: usize) -> Result<Image, String> {
        let (place, row) = index.image(position).map_err(|error| format!("is not known ({error})"))?;
        let origins = index.origins();
        let origin = origins.get(place).ok_or("comes from nowhere")?;
        let is_same = |image: &Image| row.content.is_none_or(|content| content == image.content());
        let is_inside = ["packed", "synthetic"].contains(&origin.data.split(':').next().unwrap_or_default());
        let found = if is_inside {
            let named = self.named(place, origin);
            let (dataset, places) = named.as_ref().as_ref().map_err(Clone::clone)?;
            let images = places.get(&row.path).ok_or("is no longer there")?;
            images.iter().filter_map(|&image| dataset.decode(image).ok()).collect()
        } else {
            vec![self.read_file(origin, &row)?]
        };
        found.into_iter().find(is_same).ok_or_else(|| "was replaced since the index was made".to_owned())
    }

    fn named(&self, place: usize, origin: &Origin) -> Arc<Named> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.entry(place).or_insert_with(|| Arc::new(by_name(origin, self.max_megapixels))).clone()
    }

    fn read_file(&self, origin: &Origin, row: &IndexedImage) -> Result<Image, String> {
        let path = name::listed(&origin.folder, &row.path);
        if !path.is_file() {
            return Err("is no longer there".to_owned());
        }
        let cut = |image: Image| row.part.map_or(Ok(image.clone()), |part| image.cut(part, &path));
        Decoded::open(&path, self.max_megapixels)
            .and_then(|decoded| cut(decoded.image))
            .map_err(|error| format!("cannot be read any more ({error})"))
    }
}

fn by_name(origin: &Origin, max_megapixels: u32) -> Named {
    let options = OpenOptions { holdout: origin.holdout, seed: origin.seed, max_megapixels, ..OpenOptions::default() };
    let file = origin.data.strip_prefix("packed:");
    let spec = match file {
        Some(file) => format!("packed:{}", origin.folder.join(file).display()),
        None => origin.data.clone(),
    };
    let dataset = Dataset::open(&spec, &options).map_err(|error| format!("cannot be read any more ({error})"))?;
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, image) in dataset.images.iter().enumerate() {
        let name = match (&image.source, file) {
            (Source::Packed(image), Some(file)) => image.name_in(Path::new(file)),
            (source, _) => source.to_string(),
        };
        places.entry(name).or_default().push(index);
    }
    Ok((dataset, places))
}
