//! Matrix loads and products of a warp.

use super::data::addresses;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use crate::ptx::ops::formats::{from_bfloat, from_half};
use crate::ptx::program::{Format, Op, Product, WARP};

pub fn whole_warp(lanes: u32, what: &str) -> Result<(), Trouble> {
    if lanes == u32::MAX {
        return Ok(());
    }
    let lane = Some((!lanes).trailing_zeros() as usize);
    Err(Trouble { lane, words: format!("the warp diverged: {what} needs all lanes, and {lanes:#010x} are here") })
}

pub fn load(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, op: &Op, lanes: u32, line: u32) -> Result<(), Trouble> {
    let &Op::LoadMatrix { d, count, transposed, ref address } = op else { return Ok(()) };
    whole_warp(lanes, "ldmatrix")?;
    let (found, _) = addresses(warp, address, lanes);
    let access = around.access(warp.number, 0, line);
    for matrix in 0..usize::from(count) {
        let mut rows = [[0; 16]; 8];
        let mut places = [0; 8];
        for row in 0..8 {
            let (lane, address) = found[8 * matrix + row];
            let place = around.own.shared.touch(address, 16, access, false);
            let place = place.map_err(|words| Trouble { lane: Some(lane), words })?;
            rows[row] = around.own.shared.row(place);
            places[row] = place as u32;
        }
        around.counts.matrix_rows(&places);
        let element = |row: usize, column: usize| u32::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]));
        warp.registers.words[d[matrix] as usize] = std::array::from_fn(|lane| {
            let (row, column) = (lane / 4, lane % 4 * 2);
            if transposed {
                element(column, row) | element(column + 1, row) << 16
            } else {
                element(row, column) | element(row, column + 1) << 16
            }
        });
    }
    Ok(())
}

/// The numbers of A by row and of B by k: registers of lanes to matrices, as the PTX manual's figures say.
pub struct Tiles {
    pub a: [[f32; 16]; 16],
    pub b: [[f32; 8]; 16],
}

pub fn multiply(warp: &mut Warp<'_>, product: &Product, lanes: u32) -> Result<(), Trouble> {
    whole_warp(lanes, "mma")?;
    let words = &mut warp.registers.words;
    let mut tiles = Tiles { a: [[0.0; 16]; 16], b: [[0.0; 8]; 16] };
    let halves = if product.depth == 16 { 2 } else { 1 };
    for half in 0..halves {
        for upper in 0..2 {
            let [low, high] = numbers(&words[product.a[2 * half + upper] as usize], product.format);
            for lane in 0..WARP {
                let (row, k) = (lane / 4 + 8 * upper, lane % 4 * 2 + 8 * half);
                tiles.a[row][k] = low[lane];
                tiles.a[row][k + 1] = high[lane];
            }
        }
        let [low, high] = numbers(&words[product.b[half] as usize], product.format);
        for lane in 0..WARP {
            let (k, column) = (lane % 4 * 2 + 8 * half, lane / 4);
            tiles.b[k][column] = low[lane];
            tiles.b[k + 1][column] = high[lane];
        }
    }
    let mut sums = [[0.0_f64; 8]; 16];
    for (index, register) in product.c.into_iter().enumerate() {
        for lane in 0..WARP {
            sums[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2] = f64::from(f32::from_bits(words[register as usize][lane]));
        }
    }
    accumulate(&tiles, 8 * halves, &mut sums);
    for (index, register) in product.d.into_iter().enumerate() {
        words[register as usize] = std::array::from_fn(|lane| {
            let sum = sums[lane / 4 + index / 2 * 8][lane % 4 * 2 + index % 2];
            (sum as f32).to_bits()
        });
    }
    Ok(())
}

/// The lower and the upper number of every lane.
pub fn numbers(register: &[u32; WARP], format: Format) -> [[f32; WARP]; 2] {
    match format {
        Format::Half => [register.map(|pair| from_half(pair & 0xffff)), register.map(|pair| from_half(pair >> 16))],
        Format::Bfloat => [register.map(|pair| from_bfloat(pair & 0xffff)), register.map(|pair| from_bfloat(pair >> 16))],
    }
}

/// Products of 16-bit numbers are exact, and their sums in double precision nearly so: rounded once.
pub fn accumulate(tiles: &Tiles, depth: usize, sums: &mut [[f64; 8]; 16]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn vectorised(tiles: &Tiles, depth: usize, sums: &mut [[f64; 8]; 16]) {
            plain(tiles, depth, sums);
        }
        // SAFETY: the processor has these instructions.
        unsafe { vectorised(tiles, depth, sums) };
        return;
    }
    plain(tiles, depth, sums);
}

#[inline(always)]
fn plain(tiles: &Tiles, depth: usize, sums: &mut [[f64; 8]; 16]) {
    for (row, sums) in tiles.a.iter().zip(sums) {
        for (a, b) in row[..depth].iter().zip(&tiles.b) {
            for column in 0..8 {
                sums[column] += f64::from(*a * b[column]);
            }
        }
    }
}
