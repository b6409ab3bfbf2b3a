//! A product as cuBLASLt describes it.

use super::{Factor, Matmul, failure};
use crate::device::cuda::kernel::Format;
use crate::error::Result;
use cudarc::cublaslt::{result, sys};

/// What cuBLASLt calls a product: an operation and the layouts of its matrices.
pub(super) struct Descriptors {
    pub operation: Operation,
    pub left: Layout,
    pub right: Layout,
    pub output: Layout,
}

impl Descriptors {
    pub fn new(product: &Matmul, bias: u64, tf32: bool) -> Result<Self> {
        let Matmul { rows, columns, depth, left, right, format, .. } = *product;
        let stored = |[rows, columns]: [usize; 2], factor: Factor| {
            let [rows, columns] = if factor.transposed { [columns, rows] } else { [rows, columns] };
            Layout::new(format, [rows, columns], factor.stride)
        };
        Ok(Self {
            operation: Operation::new(product, bias, tf32)?,
            left: stored([rows, depth], left)?,
            right: stored([depth, columns], right)?,
            output: Layout::new(product.output, [rows, columns], product.output_stride)?,
        })
    }
}

pub(super) struct Operation(pub sys::cublasLtMatmulDesc_t);

impl Operation {
    pub fn new(product: &Matmul, bias: u64, tf32: bool) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let fast = tf32 && product.format == Format::F32 && !product.exact;
        let compute = if fast {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let created = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F);
        let operation = Self(created.map_err(failure("creating an operation"))?);
        let transpose = |factor: Factor| i32::from(factor.transposed);
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &transpose(product.right))?;
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &transpose(product.left))?;
        if product.bias {
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &data_type(product.output))?;
        }
        Ok(operation)
    }

    fn set<T: Copy>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        // SAFETY: the descriptor is alive, and the value is as long as said.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
            .map_err(failure(&format!("setting {attribute:?}")))
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: created once, and not used afterwards.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

pub(super) struct Layout(pub sys::cublasLtMatrixLayout_t);

impl Layout {
    /// Of a row-major matrix, told as its column-major transpose.
    pub fn new(format: Format, [rows, columns]: [usize; 2], stride: usize) -> Result<Self> {
        let stride = i64::try_from(stride).expect("strides are far below 2^63");
        let created = result::create_matrix_layout(data_type(format), columns as u64, rows as u64, stride);
        created.map(Self).map_err(failure("creating a layout"))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created once, and not used afterwards.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

pub(super) struct Preference(pub sys::cublasLtMatmulPreference_t);

impl Preference {
    /// `alignments` are those of [`Matmul::alignments`].
    pub fn new(workspace_limit: usize, [left, right, output]: [u64; 3]) -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Self(result::create_matmul_pref().map_err(failure("creating a preference"))?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_limit)?;
        // Partial sums, if a sum is split, stay in 32 bit.
        let reduction = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction)?;
        // The factors change places.
        for (attribute, alignment) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, right),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, left),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, output),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, output),
        ] {
            preference.set(attribute, &u32::try_from(alignment).expect("alignments are small"))?;
        }
        Ok(preference)
    }

    fn set<T: Copy>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<()> {
        // SAFETY: the preference is alive, and the value is as long as said.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
            .map_err(failure(&format!("setting {attribute:?}")))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created once, and not used afterwards.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn data_type(format: Format) -> sys::cudaDataType {
    match format {
        Format::F32 => sys::cudaDataType::CUDA_R_32F,
        Format::F16 => sys::cudaDataType::CUDA_R_16F,
        Format::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    }
}
