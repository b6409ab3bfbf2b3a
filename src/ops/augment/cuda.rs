//! Crops on a GPU: the decoded bytes go to the device through pinned memory, `kernels/augment.cu` does the rest.

use super::cpu::check;
use super::{Augment, Crop, Pixels};
use crate::backend::Cuda;
use crate::error::Result;
use crate::kernel::augment::{AugmentImage, AugmentParams, shape};
use crate::ops::Out;

impl Augment for Cuda {
    fn augment(&self, size: usize, images: &[Pixels<'_>], crops: &[Crop], mut output: Out<'_, Self>) -> Result<()> {
        check(size, images, crops, output.len)?;
        if images.is_empty() {
            return Ok(());
        }
        let pixels = self.stage(images.iter().map(|image| image.rgb.len()).sum(), |mut target| {
            for image in images {
                let (head, rest) = target.split_at_mut(image.rgb.len());
                head.copy_from_slice(image.rgb);
                target = rest;
            }
        })?;
        let descriptions = self.stage_values(&described(images, crops))?;
        let params = AugmentParams {
            pixels: pixels.address(),
            images: descriptions.address(),
            output: self.address_mut(&mut output),
            count: images.len() as u32,
            size: size as u32,
        };
        let name = format!("augment_{}", output.buffer.format().suffix());
        // SAFETY: the images lie one after the other as described, the crops inside them, and the output has room, checked above.
        unsafe { self.launch("augment", &name, shape(images.len(), size), params) }
    }
}

fn described(images: &[Pixels<'_>], crops: &[Crop]) -> Vec<AugmentImage> {
    let mut offset = 0;
    let describe = |(image, crop): (&Pixels<'_>, &Crop)| {
        let start = offset;
        offset += image.rgb.len() as u64;
        AugmentImage {
            offset: start,
            height: image.height as u32,
            width: image.width as u32,
            top: crop.top,
            left: crop.left,
            crop_height: crop.height,
            crop_width: crop.width,
            sees_surroundings: u32::from(crop.sees_surroundings),
            flip: u32::from(crop.flip),
        }
    };
    images.iter().zip(crops).map(describe).collect()
}
