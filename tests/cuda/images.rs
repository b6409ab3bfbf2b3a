//! Images that stay on the device.

use crate::support::{on_gpu, values};
use xbm_fast::device::{Cuda, NumberFormat, SpanMut, Storage};
use xbm_fast::ops::augment::{Augment, Crop, Pixels};

const SIZE: usize = 3;

/// An image of one colour.
fn grey(value: u8) -> Vec<u8> {
    vec![value; 4 * 5 * 3]
}

/// The first value of each image's crop.
fn crops_of(cuda: &Cuda, kept: &mut <Cuda as Augment>::ImageCache, ids: &[i32], images: &[Vec<u8>]) -> Vec<f32> {
    let pixels: Vec<_> = images.iter().map(|rgb| Pixels { rgb, height: 4, width: 5 }).collect();
    let whole = Crop { top: 0.0, left: 0.0, height: 4.0, width: 5.0, sees_surroundings: false, flip: false };
    let len = images.len() * SIZE * SIZE * 3;
    let mut output = cuda.zeros(len, NumberFormat::Compute).unwrap();
    cuda.augment_cached(kept, ids, SIZE, &pixels, &vec![whole; images.len()], SpanMut::new(&mut output, 0, len)).unwrap();
    values(cuda, &output, len).into_iter().step_by(SIZE * SIZE * 3).collect()
}

#[test]
fn what_fits_is_sent_once_and_what_does_not_is_sent_every_time() {
    on_gpu(|cuda| {
        let fresh = |greys: &[u8]| {
            let images: Vec<_> = greys.iter().copied().map(grey).collect();
            crops_of(cuda, &mut cuda.image_cache(0), &[0, 1, 2, 3], &images)
        };
        let image_bytes = grey(0).len();
        let mut kept = cuda.image_cache(3 * image_bytes);
        let images = |greys: [u8; 4]| greys.map(grey);
        let ids = [7, 8, 7, 9];
        assert_eq!(crops_of(cuda, &mut kept, &ids, &images([10, 20, 10, 30])), fresh(&[10, 20, 10, 30]));
        // Other bytes under ids that are known show that they were not sent again.
        let mixed = crops_of(cuda, &mut kept, &[9, 11, 8, 12], &images([0, 40, 0, 50]));
        assert_eq!(mixed, fresh(&[30, 40, 20, 50]), "the memory is full: new images are sent as they come");
        assert_eq!(crops_of(cuda, &mut kept, &[12, 7, 8, 9], &images([60, 0, 0, 0])), fresh(&[60, 10, 20, 30]));
    });
}
