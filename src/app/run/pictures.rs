//! Finds the pictures of an index's rows again: by name, and by content where the index knows it. Their positions in the data set mean
//! nothing once an image was added to it or deleted.

use crate::app::data::{Dataset, Decoded, Image, OpenOptions, Source};
use crate::app::index::{About, Index, IndexedImage};
use crate::files::name;
use std::collections::HashMap;
use std::path::Path;

/// A data set, and the positions of its images by name.
type Named = (Dataset, HashMap<String, Vec<usize>>);

/// Where the pictures of an index are.
pub struct Pictures<'a> {
    about: &'a About,
    max_megapixels: u32,
    /// Of images that are not files by themselves: why they cannot be had, or their positions in the data set by name.
    inside: Option<Result<Named, String>>,
}

impl<'a> Pictures<'a> {
    /// Of the rows of `index`.
    pub fn of(index: &'a Index, max_megapixels: u32) -> Self {
        let about = &index.about;
        let is_inside = ["packed", "synthetic"].contains(&about.data.split(':').next().unwrap_or_default());
        Self { about, max_megapixels, inside: is_inside.then(|| by_name(about, max_megapixels)) }
    }

    /// The picture that was embedded, or why there is none.
    ///
    /// # Errors
    /// That it is gone, was replaced by another one, or cannot be read, in words that follow its name.
    pub fn find(&self, row: &IndexedImage) -> Result<Image, String> {
        let is_same = |image: &Image| row.content.is_none_or(|content| content == image.content());
        let found = match &self.inside {
            None => vec![self.read_file(row)?],
            Some(Err(reason)) => return Err(reason.clone()),
            Some(Ok((dataset, places))) => {
                let named = places.get(&row.path).ok_or("is no longer there")?;
                named.iter().filter_map(|&image| dataset.decode(image).ok()).collect()
            }
        };
        found.into_iter().find(is_same).ok_or_else(|| "was replaced since the index was made".to_owned())
    }

    fn read_file(&self, row: &IndexedImage) -> Result<Image, String> {
        let path = name::listed(&self.about.folder, &row.path);
        if !path.is_file() {
            return Err("is no longer there".to_owned());
        }
        let cut = |image: Image| row.part.map_or(Ok(image.clone()), |part| image.cut(part, &path));
        Decoded::open(&path, self.max_megapixels)
            .and_then(|decoded| cut(decoded.image))
            .map_err(|error| format!("cannot be read any more ({error})"))
    }
}

fn by_name(about: &About, max_megapixels: u32) -> Result<Named, String> {
    let options = OpenOptions { holdout: about.holdout, seed: about.seed, max_megapixels, ..OpenOptions::default() };
    let file = about.data.strip_prefix("packed:");
    let spec = match file {
        Some(file) => format!("packed:{}", about.folder.join(file).display()),
        None => about.data.clone(),
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
