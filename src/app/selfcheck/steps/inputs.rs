//! Inputs that every format holds exactly, so that devices which round differently have the same to compare: what decides which way a
//! comparison goes (a maximum, a gate, a rank) is then the same on both.

use crate::rng::Rng;

/// Length of an embedding: one that the fused pair loss has.
pub const DIM: usize = 64;

/// `len` values in (-2, 2), each a multiple of 1/64.
pub fn values(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(0).at(name);
    (0..len).map(|_| (rng.below(255) as f32 - 127.0) / 64.0).collect()
}

/// The integers from `-len/2` on in disorder: no two are equal. At most 256 of them are exact in every format.
pub fn distinct(name: &str, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(0).at(name);
    let mut values: Vec<f32> = (0..len).map(|value| value as f32 - (len / 2) as f32).collect();
    for last in (1..len).rev() {
        values.swap(last, rng.below(last + 1));
    }
    values
}

/// Unit rows of [`DIM`] numbers, each 1/8 or -1/8, so that similarities are multiples of 1/32. Row `i` is of class `i % classes`: rows of
/// a class differ from its prototype in one sign of eight, prototypes from each other in one of five.
pub fn unit_rows(name: &str, rows: usize, classes: usize) -> Vec<f32> {
    let flipped = |row: &mut Vec<bool>, mut rng: Rng, one_in: usize| {
        row.iter_mut().for_each(|sign| *sign ^= rng.below(one_in) == 0);
    };
    let mut values = Vec::with_capacity(rows * DIM);
    for row in 0..rows {
        let mut signs: Vec<bool> = (0..DIM).map(|place| place % 3 == 0).collect();
        flipped(&mut signs, Rng::new(0).at("prototype").at(row % classes), 5);
        flipped(&mut signs, Rng::new(0).at(name).at(row), 8);
        values.extend(signs.iter().map(|&sign| if sign { 0.125 } else { -0.125 }));
    }
    values
}

/// Row `i` is of class `i % classes`.
pub fn labels(rows: usize, classes: usize) -> Vec<i32> {
    (0..rows).map(|row| (row % classes) as i32).collect()
}
