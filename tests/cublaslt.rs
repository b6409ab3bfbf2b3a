//! Matrix products through cuBLASLt: equal to plain sums in 64 bit for every format, transpose, stride, bias and accumulation, and the
//! chunks of the pair loss. On a machine without a GPU the library is the software GPU's stand-in.

#[path = "kernels/device.rs"]
#[allow(dead_code, reason = "shared with the kernels' suite")]
mod device;
mod support;

use cudarc::driver::CudaSlice;
use device::{Gpu, rounded, rounding, width};
use proptest::prelude::*;
use software_gpu::SCHEDULES;
use std::sync::{Mutex, PoisonError};
use support::{assert_close, normals};
use xbm_fast::device::Workspace;
use xbm_fast::device::cublaslt::{ALIGNMENT, CublasLt, Factor, Matmul, Matrices};
use xbm_fast::device::cuda::kernel::Format;

/// Sums of up to two thousand products in 32 bit.
const SUMS: f64 = 2e-5;
/// The workspace that algorithms may use, in bytes.
const WORKSPACE: usize = 4 << 20;

fn on_the_device(body: impl FnMut(&Gpu)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    device::on(SCHEDULES[0], body);
}

fn open(gpu: &Gpu) -> CublasLt {
    CublasLt::new(gpu.stream.clone(), WORKSPACE, false).unwrap()
}

/// A row of so many elements, lengthened to whole vectors.
fn padded(elements: usize, format: Format) -> usize {
    elements.next_multiple_of(usize::try_from(ALIGNMENT).unwrap() / width(format))
}

/// A matrix as it is stored.
struct Stored {
    rows: usize,
    stride: usize,
    transposed: bool,
    values: Vec<f32>,
}

impl Stored {
    /// `packed`: without anything between its rows, which then begin on whole vectors only by chance.
    fn new(name: &str, [rows, columns]: [usize; 2], (transposed, packed): (bool, bool), format: Format) -> Self {
        let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
        let stride = if packed { columns } else { padded(columns, format) };
        Self { rows, stride, transposed, values: rounded(&normals(name, rows * stride), format) }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let [row, column] = if self.transposed { [column, row] } else { [row, column] };
        assert!(row < self.rows);
        f64::from(self.values[row * self.stride + column])
    }

    fn factor(&self) -> Factor {
        Factor { transposed: self.transposed, stride: self.stride }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: [usize; 3],
    format: Format,
    wide: bool,
    transposed: [bool; 2],
    packed: bool,
    bias: bool,
    accumulate: bool,
}

/// Runs the product and compares every element; what lies between rows must be left alone.
fn check(gpu: &Gpu, library: &CublasLt, case: Case) {
    let Case { sizes: [rows, columns, depth], format, .. } = case;
    let output = if case.wide { Format::F32 } else { format };
    let left = Stored::new("left", [rows, depth], (case.transposed[0], case.packed), format);
    let right = Stored::new("right", [depth, columns], (case.transposed[1], case.packed), format);
    let before = Stored::new("before", [rows, columns], (false, case.packed), output);
    let bias = rounded(&normals("bias", columns), output);
    let product = Matmul {
        left: left.factor(),
        right: right.factor(),
        output,
        output_stride: before.stride,
        bias: case.bias,
        accumulate: case.accumulate,
        ..Matmul::packed(case.sizes, format)
    };
    let scale = 0.5;
    let found = run(gpu, library, &product, scale, [&left.values, &right.values, &before.values, &bias]).unwrap();
    let mut expected: Vec<f64> = before.values.iter().map(|&value| f64::from(value)).collect();
    for row in 0..rows {
        for column in 0..columns {
            let sum: f64 = (0..depth).map(|k| left.at(row, k) * right.at(k, column)).sum();
            let held = if case.accumulate { before.at(row, column) } else { 0.0 };
            let added = if case.bias { f64::from(bias[column]) } else { 0.0 };
            expected[row * before.stride + column] = f64::from(scale) * sum + held + added;
        }
    }
    assert_close(&format!("{case:?}"), &found, &expected, SUMS + rounding(output));
}

fn run(gpu: &Gpu, library: &CublasLt, product: &Matmul, scale: f32, values: [&[f32]; 4]) -> xbm_fast::Result<Vec<f32>> {
    let [left, right] = [values[0], values[1]].map(|values| gpu.encode(values, product.format));
    let [output, bias] = [values[2], values[3]].map(|values| gpu.encode(values, product.output));
    let bytes = library.workspace_bytes(product)?;
    let workspace: CudaSlice<u8> = gpu.uninitialised(bytes.max(1));
    let [left, right, to, bias] = [&left, &right, &output, &bias].map(|buffer| gpu.address(buffer));
    let matrices = Matrices { left, right, output: to, bias };
    // SAFETY: the buffers are as large as the product says and live until the result has been read.
    unsafe { library.matmul(product, scale, &matrices, Workspace { address: gpu.address(&workspace), bytes }) }?;
    Ok(gpu.decode(&output, product.output))
}

#[test]
fn agrees_with_plain_sums_for_every_format_and_transpose() {
    on_the_device(|gpu| {
        let library = open(gpu);
        for format in [Format::F32, Format::F16, Format::Bf16] {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                for (wide, bias, accumulate) in
                    [(true, false, false), (false, true, false), (true, true, true), (false, false, true)]
                {
                    for packed in [false, true] {
                        check(gpu, &library, Case { sizes: [9, 23, 33], format, wide, transposed, packed, bias, accumulate });
                    }
                }
            }
        }
    });
}

#[test]
fn long_sums_use_the_workspace_and_agree() {
    on_the_device(|gpu| {
        let case = Case {
            sizes: [8, 16, 2048],
            format: Format::F16,
            wide: true,
            transposed: [false, true],
            packed: false,
            bias: true,
            accumulate: false,
        };
        check(gpu, &open(gpu), case);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn agrees_with_plain_sums_on_any_shape(
        sizes in prop::array::uniform3(1_usize..40),
        transposed in prop::array::uniform2(any::<bool>()),
        flags in prop::array::uniform4(any::<bool>()),
        format in prop::sample::select(vec![Format::F32, Format::F16, Format::Bf16]),
    ) {
        let [wide, packed, bias, accumulate] = flags;
        on_the_device(|gpu| check(gpu, &open(gpu), Case { sizes, format, wide, transposed, packed, bias, accumulate }));
    }
}

/// `similarities = anchors memory^T` by chunks, and `gradient += weights memory` by the same chunks, as the pair loss does.
#[test]
fn chunks_of_a_memory_add_up_to_the_whole() {
    const ANCHORS: usize = 6;
    const DIM: usize = 32;
    const ROWS: usize = 100;
    const CHUNK: usize = 40;
    on_the_device(|gpu| {
        let library = open(gpu);
        let memory = rounded(&normals("memory", ROWS * DIM), Format::F16);
        let weights = rounded(&normals("weights", ANCHORS * ROWS), Format::F16);
        let mut gradient = vec![0f32; ANCHORS * DIM];
        for start in (0..ROWS).step_by(CHUNK) {
            let rows = CHUNK.min(ROWS - start);
            let stride = padded(rows, Format::F16);
            let chunk_weights: Vec<f32> = weights
                .chunks(ROWS)
                .flat_map(|row| (0..stride).map(move |column| if column < rows { row[start + column] } else { f32::NAN }))
                .collect();
            let product = Matmul {
                left: Factor { transposed: false, stride },
                accumulate: start > 0,
                ..Matmul::packed([ANCHORS, DIM, rows], Format::F16)
            };
            let chunk = &memory[start * DIM..][..rows * DIM];
            gradient = run(gpu, &library, &product, 1.0, [&chunk_weights, chunk, &gradient, &[0.0]]).unwrap();
        }
        let whole: Vec<f64> = (0..ANCHORS * DIM)
            .map(|at| {
                (0..ROWS).map(|row| f64::from(weights[at / DIM * ROWS + row]) * f64::from(memory[row * DIM + at % DIM])).sum()
            })
            .collect();
        assert_close("gradient", &gradient, &whole, SUMS);
    });
}

#[test]
fn wrong_arguments_are_errors_that_say_which() {
    on_the_device(|gpu| {
        let library = open(gpu);
        let product = Matmul::packed([8, 8, 8], Format::F16);
        let buffer = gpu.upload(&vec![0u16; 1024]);
        let address = gpu.address(&buffer);
        let whole = Matrices { left: address, right: address + 256, output: address + 512, bias: 0 };
        let failure = |product: &Matmul, matrices: &Matrices| {
            // SAFETY: refused before anything runs.
            unsafe { library.matmul(product, 1.0, matrices, Workspace::default()) }.unwrap_err().to_string()
        };
        assert!(failure(&product, &Matrices { left: address + 4, ..whole }).contains("left factor: expected a device address"));
        assert!(failure(&product, &Matrices { right: 0, ..whole }).contains("right factor"));
        assert!(failure(&product, &Matrices { output: address + 8, ..whole }).contains("multiple of 16"));
        assert!(failure(&Matmul { bias: true, ..product }, &whole).contains("bias: expected"));
        let overlapping = Matmul { left: Factor { transposed: false, stride: 4 }, ..product };
        assert!(failure(&overlapping, &whole).contains("cuBLASLt, "));
        software_gpu::take_reports();
    });
}

#[test]
fn products_that_split_their_sums_need_their_workspace() {
    on_the_device(|gpu| {
        let library = open(gpu);
        let product = Matmul::packed([8, 8, 2048], Format::F16);
        let needed = library.workspace_bytes(&product).unwrap();
        if needed == 0 {
            return;
        }
        let buffer = gpu.upload(&vec![0u16; 65536]);
        let address = gpu.address(&buffer);
        let matrices = Matrices { left: address, right: address + 32768, output: address + 65536, bias: 0 };
        let workspace = Workspace { address, bytes: needed - 1 };
        // SAFETY: refused before anything runs.
        let error = unsafe { library.matmul(&product, 1.0, &matrices, workspace) }.unwrap_err().to_string();
        assert!(error.contains("matrix product workspace: expected"), "{error}");
    });
}
