//! Crops on a GPU: the decoded bytes go to the device through pinned memory, `kernels/augment.cu` does the rest. Images that come again
//! may stay there.

use super::cpu::check;
use super::{Augment, Crop, Pixels};
use crate::device::Cuda;
use crate::device::cuda::DeviceMemory;
use crate::error::{Error, Result};
use crate::kernel_args::augment::{AugmentImage, AugmentParams, shape};
use crate::ops::Out;
use std::collections::HashMap;

/// Device memory is taken for images in blocks of at least this many bytes.
const BLOCK: usize = 16 << 20;

/// Decoded images in device memory, by their ids.
#[derive(Debug)]
pub struct CachedImages {
    /// Bytes that may still be taken.
    budget: usize,
    blocks: Vec<DeviceMemory>,
    /// First free byte of the last block, and how many follow.
    free: (u64, usize),
    places: HashMap<i32, u64>,
}

impl Augment for Cuda {
    type ImageCache = CachedImages;

    fn image_cache(&self, bytes: usize) -> CachedImages {
        CachedImages { budget: bytes, blocks: Vec::new(), free: (0, 0), places: HashMap::new() }
    }

    fn augment(&self, size: usize, images: &[Pixels<'_>], crops: &[Crop], output: Out<'_, Self>) -> Result<()> {
        self.augment_cached(&mut self.image_cache(0), &[], size, images, crops, output)
    }

    fn augment_cached(
        &self,
        cache: &mut CachedImages,
        ids: &[i32],
        size: usize,
        images: &[Pixels<'_>],
        crops: &[Crop],
        mut output: Out<'_, Self>,
    ) -> Result<()> {
        check(size, images, crops, output.len)?;
        if images.is_empty() {
            return Ok(());
        }
        let new = cache.make_room(self, ids, images)?;
        if let Some((&first, _)) = new.split_first() {
            let chosen: Vec<Pixels<'_>> = new.iter().map(|&index| images[index]).collect();
            self.send(cache.places[&ids[first]], bytes_of(&chosen), |target| copy_all(&chosen, target))?;
        }
        let place = |index: usize| ids.get(index).and_then(|id| cache.places.get(id)).copied();
        let passing: Vec<Pixels<'_>> =
            (0..images.len()).filter(|&index| place(index).is_none()).map(|index| images[index]).collect();
        let pixels = match bytes_of(&passing) {
            0 => None,
            bytes => Some(self.stage(bytes, |target| copy_all(&passing, target))?),
        };
        let mut next = pixels.as_ref().map_or(0, DeviceMemory::address);
        let mut described = Vec::with_capacity(images.len());
        for (index, (image, crop)) in images.iter().zip(crops).enumerate() {
            let address = place(index).unwrap_or_else(|| {
                next += image.rgb.len() as u64;
                next - image.rgb.len() as u64
            });
            described.push(describe(address, image, crop));
        }
        let descriptions = self.stage_values(&described)?;
        let params = AugmentParams {
            pixels: 0,
            images: descriptions.address(),
            output: self.address_mut(&mut output),
            count: images.len() as u32,
            size: size as u32,
        };
        let name = format!("augment_{}", output.buffer.format().suffix());
        // SAFETY: the images lie where they are described, the crops inside them, and the output has room, checked above.
        unsafe { self.launch("augment", &name, shape(images.len(), size), params) }
    }
}

impl CachedImages {
    /// Places for those images that have none and for which there is memory; returns which, in the order in which they lie side by side.
    fn make_room(&mut self, cuda: &Cuda, ids: &[i32], images: &[Pixels<'_>]) -> Result<Vec<usize>> {
        let (mut new, mut bytes) = (Vec::new(), 0);
        for (index, (id, image)) in ids.iter().zip(images).enumerate() {
            let again = new.iter().any(|&other: &usize| ids[other] == *id);
            if !again && !self.places.contains_key(id) && bytes + image.rgb.len() <= self.budget {
                bytes += image.rgb.len();
                new.push(index);
            }
        }
        if bytes > self.free.1 {
            let block = match cuda.memory_to_keep(bytes.max(BLOCK.min(self.budget))) {
                Ok(block) => block,
                Err(Error::OutOfMemory { .. }) => {
                    self.budget = 0;
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            };
            self.free = (block.address(), block.bytes());
            self.blocks.push(block);
        }
        for &index in &new {
            self.places.insert(ids[index], self.free.0);
            self.free.0 += images[index].rgb.len() as u64;
        }
        self.free.1 -= bytes;
        self.budget -= bytes;
        Ok(new)
    }
}

fn bytes_of(images: &[Pixels<'_>]) -> usize {
    images.iter().map(|image| image.rgb.len()).sum()
}

/// Side by side.
fn copy_all(images: &[Pixels<'_>], mut target: &mut [u8]) {
    for image in images {
        let (head, rest) = target.split_at_mut(image.rgb.len());
        head.copy_from_slice(image.rgb);
        target = rest;
    }
}

/// An image that begins at an address.
fn describe(address: u64, image: &Pixels<'_>, crop: &Crop) -> AugmentImage {
    AugmentImage {
        offset: address,
        height: image.height as u32,
        width: image.width as u32,
        top: crop.top,
        left: crop.left,
        crop_height: crop.height,
        crop_width: crop.width,
        sees_surroundings: u32::from(crop.sees_surroundings),
        flip: u32::from(crop.flip),
    }
}
