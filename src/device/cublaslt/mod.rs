//! Matrix products by cuBLASLt.
//!
//! Everything here is row-major; cuBLASLt is column-major, so it is asked for the transposed product: `output^T = right^T left^T`, in
//! which a row-major matrix is, without moving, its own transpose.

mod descriptors;

use super::library::{Workspace, check_address};
use crate::device::cuda::kernel::{Format, width};
use crate::error::{Error, Result};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::CudaStream;
use descriptors::{Descriptors, Preference};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

/// What the address of a matrix must be a multiple of where its rows are, in bytes: the widest load of a thread. Where they are not, what
/// they are a multiple of is enough; the library then takes narrower loads.
pub const ALIGNMENT: u64 = 16;

/// The version of the loaded library, such as 130002, where it is installed.
pub fn version() -> Option<usize> {
    // SAFETY: the first call only tries to open the library, the second takes nothing.
    unsafe { sys::is_culib_present().then(|| sys::cublasLtGetVersion()) }
}

/// `output = scale * left * right (+ bias) (+ output)`, sums taken in 32 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matmul {
    /// Rows of the output.
    pub rows: usize,
    /// Columns of the output.
    pub columns: usize,
    /// Length of each sum.
    pub depth: usize,
    /// `rows` x `depth`.
    pub left: Factor,
    /// `depth` x `columns`.
    pub right: Factor,
    /// Format of both factors.
    pub format: Format,
    /// The factors' format, or 32 bit.
    pub output: Format,
    /// Elements from one row of the output to the next.
    pub output_stride: usize,
    /// Whether a vector of one number for each column, in the output's format, is added to every row.
    pub bias: bool,
    /// Added to what the output holds, instead of overwriting it.
    pub accumulate: bool,
    /// Whether 32-bit factors are multiplied as they are, even where they may be rounded to TF32.
    pub exact: bool,
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Factor {
    /// Whether its transpose is stored.
    pub transposed: bool,
    /// Elements from one stored row to the next.
    pub stride: usize,
}

/// Device addresses of a product's matrices, each a multiple of what [`ALIGNMENT`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Left factor.
    pub left: u64,
    /// Right factor.
    pub right: u64,
    /// Output.
    pub output: u64,
    /// Bias; unused without.
    pub bias: u64,
}

impl Matmul {
    /// A product of matrices whose rows lie one after the other, into 32 bit.
    pub fn packed([rows, columns, depth]: [usize; 3], format: Format) -> Self {
        Self {
            rows,
            columns,
            depth,
            left: Factor { transposed: false, stride: depth },
            right: Factor { transposed: false, stride: columns },
            format,
            output: Format::F32,
            output_stride: columns,
            bias: false,
            accumulate: false,
            exact: false,
        }
    }

    /// With the left factor stored as `depth` packed rows.
    #[must_use]
    pub fn left_transposed(self) -> Self {
        Self { left: Factor { transposed: true, stride: self.rows }, ..self }
    }

    /// With the right factor stored as `columns` packed rows.
    #[must_use]
    pub fn right_transposed(self) -> Self {
        Self { right: Factor { transposed: true, stride: self.depth }, ..self }
    }

    /// What the left factor, the right factor and the output are aligned to, in bytes.
    fn alignments(&self) -> [u64; 3] {
        let of = |stride: usize, format: Format| 1 << ((stride * width(format)) as u64 | ALIGNMENT).trailing_zeros();
        [of(self.left.stride, self.format), of(self.right.stride, self.format), of(self.output_stride, self.output)]
    }

    fn check(&self, matrices: &Matrices) -> Result<()> {
        let [left, right, output] = self.alignments();
        check_address("left factor", matrices.left, left)?;
        check_address("right factor", matrices.right, right)?;
        check_address("matrix product", matrices.output, output)?;
        if self.bias { check_address("bias", matrices.bias, ALIGNMENT) } else { Ok(()) }
    }
}

/// cuBLASLt on one stream, with the algorithm of each product chosen once.
#[derive(Debug)]
pub struct CublasLt {
    handle: Handle,
    stream: Arc<CudaStream>,
    tf32: bool,
    workspace_limit: usize,
    algorithms: Mutex<HashMap<Matmul, sys::cublasLtMatmulHeuristicResult_t>>,
}

#[derive(Debug)]
struct Handle(sys::cublasLtHandle_t);

// SAFETY: cuBLASLt's handles may be used by any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created once, and not used afterwards. Nothing can be done about a failure here.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

impl CublasLt {
    /// Opens the library for a stream. Algorithms may use up to `workspace_limit` bytes of workspace; with `tf32` they may round 32-bit
    /// factors to TF32.
    ///
    /// # Errors
    /// [`Error::Device`] if the library is missing or refuses the device.
    pub fn new(stream: Arc<CudaStream>, workspace_limit: usize, tf32: bool) -> Result<Self> {
        // SAFETY: only tries to open the library.
        if !unsafe { sys::is_culib_present() } {
            let reason = "libcublasLt was not found; install the CUDA toolkit or the wheel nvidia-cublas";
            return Err(Error::Device { what: "loading cuBLASLt".into(), reason: reason.into() });
        }
        bind(&stream)?;
        let handle = Handle(result::create_handle().map_err(failure("creating a handle"))?);
        Ok(Self { handle, stream, tf32, workspace_limit, algorithms: Mutex::default() })
    }

    /// Bytes of workspace that this product needs. Chooses its algorithm if that has not been done.
    ///
    /// # Errors
    /// [`Error::Device`] if the library has no algorithm for it.
    pub fn workspace_bytes(&self, product: &Matmul) -> Result<usize> {
        bind(&self.stream)?;
        // The library looks for algorithms with a bias only where one is set; it does not read it here.
        let descriptors = Descriptors::new(product, ALIGNMENT, self.tf32)?;
        Ok(self.algorithm(product, &descriptors)?.workspaceSize)
    }

    /// Puts `output = scale * left * right (+ bias) (+ output)` on the stream.
    ///
    /// # Errors
    /// [`Error::Shape`] if an address is not aligned or the workspace too small; [`Error::Device`] if the library refuses.
    ///
    /// # Safety
    /// The addresses must be those of device memory as large as the product says, and the workspace of as many bytes as it says, until
    /// the stream has executed the work; other streams must not use them meanwhile.
    pub unsafe fn matmul(&self, product: &Matmul, scale: f32, matrices: &Matrices, workspace: Workspace) -> Result<()> {
        product.check(matrices)?;
        bind(&self.stream)?;
        let descriptors = Descriptors::new(product, matrices.bias, self.tf32)?;
        let algorithm = self.algorithm(product, &descriptors)?;
        workspace.check("matrix product workspace", algorithm.workspaceSize, ALIGNMENT)?;
        let (alpha, beta) = (scale, if product.accumulate { 1f32 } else { 0f32 });
        let output = matrices.output as *mut c_void;
        // SAFETY: handle, descriptors and stream are alive; the factors change places as explained above; the caller vouches for the
        // addresses.
        unsafe {
            result::matmul(
                self.handle.0,
                descriptors.operation.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                matrices.right as *const c_void,
                descriptors.right.0,
                matrices.left as *const c_void,
                descriptors.left.0,
                output,
                descriptors.output.0,
                output,
                descriptors.output.0,
                &raw const algorithm.algo,
                workspace.address as *mut c_void,
                algorithm.workspaceSize,
                self.stream.cu_stream().cast(),
            )
        }
        .map_err(failure(&format!("running {product:?}")))
    }

    fn algorithm(&self, product: &Matmul, descriptors: &Descriptors) -> Result<sys::cublasLtMatmulHeuristicResult_t> {
        let mut algorithms = self.algorithms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(algorithm) = algorithms.get(product) {
            return Ok(*algorithm);
        }
        let preference = Preference::new(self.workspace_limit, product.alignments())?;
        // SAFETY: all are alive.
        let algorithm = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle.0,
                descriptors.operation.0,
                descriptors.right.0,
                descriptors.left.0,
                descriptors.output.0,
                descriptors.output.0,
                preference.0,
            )
        }
        .map_err(failure(&format!("choosing an algorithm for {product:?}")))?;
        algorithms.insert(*product, algorithm);
        Ok(algorithm)
    }
}

fn bind(stream: &CudaStream) -> Result<()> {
    let failed = |error| Error::Device { what: "cuBLASLt, making the context current".into(), reason: format!("{error:?}") };
    stream.context().bind_to_thread().map_err(failed)
}

fn failure(what: &str) -> impl FnOnce(CublasError) -> Error {
    let what = format!("cuBLASLt, {what}");
    move |CublasError(status)| Error::Device { what, reason: format!("{status:?}") }
}
