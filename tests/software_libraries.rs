//! The software GPU's cuDNN and cuBLASLt refuse what the real ones refuse, or what the engine must not do: each fault is committed on
//! purpose, through the raw interface, and must be reported in words.

use cudarc::cublaslt::{result, sys as blas};
use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use cudarc::driver::{CudaContext, CudaStream, DevicePtr};
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Raw = sys::cudnnBackendDescriptor_t;

struct Gpu {
    stream: Arc<CudaStream>,
    _alone: MutexGuard<'static, ()>,
}

impl Gpu {
    /// `None` when there is no software GPU: real libraries are not for committing faults with.
    fn new() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !software_gpu::available() || *software_gpu::device() == software_gpu::Device::Real {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        software_gpu::take_reports();
        let context = CudaContext::new(0).unwrap();
        // SAFETY: every test uses one stream.
        unsafe { context.disable_event_tracking() };
        Some(Self { stream: context.new_stream().unwrap(), _alone: alone })
    }
}

fn create(kind: Kind) -> Raw {
    let mut raw = ptr::null_mut();
    // SAFETY: the result is written before it is read.
    assert_eq!(unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut raw) }, sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS);
    raw
}

fn words(status: sys::cudnnStatus_t) -> Result<(), String> {
    if status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut text = [0u8; 1024];
    // SAFETY: the buffer has the size that is passed.
    unsafe { sys::cudnnGetLastErrorString(text.as_mut_ptr().cast(), text.len()) };
    Err(format!("{status:?}: {}", CStr::from_bytes_until_nul(&text).unwrap().to_string_lossy()))
}

fn set<T>(raw: Raw, name: Name, kind: Type, values: &[T]) -> Result<(), String> {
    // SAFETY: the values are as many as said; a wrong type is what the library is to find.
    words(unsafe { sys::cudnnBackendSetAttribute(raw, name, kind, i64::try_from(values.len()).unwrap(), values.as_ptr().cast()) })
}

fn finalize(raw: Raw) -> Result<(), String> {
    // SAFETY: the library looks the pointer up before it uses it.
    words(unsafe { sys::cudnnBackendFinalize(raw) })
}

const INT64: Type = Type::CUDNN_TYPE_INT64;
const DESCRIPTOR: Type = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;

struct Tensor {
    id: i64,
    data_type: sys::cudnnDataType_t,
    sizes: [i64; 4],
    alignment: i64,
    is_virtual: bool,
}

impl Tensor {
    fn new(id: i64, sizes: [i64; 4]) -> Self {
        Self { id, data_type: sys::cudnnDataType_t::CUDNN_DATA_HALF, sizes, alignment: 16, is_virtual: false }
    }

    fn build(&self) -> Result<Raw, String> {
        let [_, c, h, w] = self.sizes;
        self.with_strides([h * w * c, 1, w * c, c])
    }

    fn with_strides(&self, strides: [i64; 4]) -> Result<Raw, String> {
        let raw = create(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        set(raw, Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, INT64, &[self.id])?;
        set(raw, Name::CUDNN_ATTR_TENSOR_DATA_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[self.data_type])?;
        set(raw, Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, INT64, &[self.alignment])?;
        set(raw, Name::CUDNN_ATTR_TENSOR_DIMENSIONS, INT64, &self.sizes)?;
        set(raw, Name::CUDNN_ATTR_TENSOR_STRIDES, INT64, &strides)?;
        set(raw, Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Type::CUDNN_TYPE_BOOLEAN, &[self.is_virtual])?;
        finalize(raw).map(|()| raw)
    }
}

/// A 3 x 3 window with one pixel of padding.
fn window(compute: sys::cudnnDataType_t) -> Result<Raw, String> {
    let raw = create(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
    set(raw, Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[compute])?;
    set(raw, Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Type::CUDNN_TYPE_CONVOLUTION_MODE, &[mode])?;
    set(raw, Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, INT64, &[2i64])?;
    for name in [
        Name::CUDNN_ATTR_CONVOLUTION_DILATIONS,
        Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
        Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS,
        Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
    ] {
        set(raw, name, INT64, &[1i64, 1])?;
    }
    finalize(raw).map(|()| raw)
}

const FLOAT: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

/// A forward convolution of the three tensors.
fn forward([input, filter, output]: [Raw; 3]) -> Result<Raw, String> {
    let raw = create(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, Type::CUDNN_TYPE_FLOAT, &[1f32])?;
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, Type::CUDNN_TYPE_FLOAT, &[0f32])?;
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, DESCRIPTOR, &[window(FLOAT)?])?;
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, DESCRIPTOR, &[input])?;
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, DESCRIPTOR, &[filter])?;
    set(raw, Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, DESCRIPTOR, &[output])?;
    finalize(raw).map(|()| raw)
}

fn graph(operations: &[Raw]) -> Result<Raw, String> {
    let raw = create(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(raw, Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, DESCRIPTOR, operations)?;
    finalize(raw).map(|()| raw)
}

const INPUT: [i64; 4] = [2, 8, 4, 4];
const FILTER: [i64; 4] = [16, 8, 3, 3];
const OUTPUT: [i64; 4] = [2, 16, 4, 4];

#[track_caller]
fn refused<T>(outcome: Result<T, String>, expected: &str) {
    let found = outcome.err().unwrap_or_else(|| "nothing".into());
    assert!(found.contains(expected), "must be refused with `{expected}`, found `{found}`");
}

#[test]
fn attributes_are_checked_for_name_type_count_and_presence() {
    let Some(_gpu) = Gpu::new() else { return };
    let tensor = create(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    refused(set(tensor, Name::CUDNN_ATTR_POINTWISE_MODE, INT64, &[1i64]), "a tensor has no attribute 0");
    refused(set(tensor, Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, Type::CUDNN_TYPE_FLOAT, &[1f32]), "has type 3, not 4");
    refused(set(tensor, Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, INT64, &[1i64, 2]), "has 1 to 1 elements, not 2");
    refused(finalize(tensor), "of a tensor is not set");
    let plan = create(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    refused(set(plan, Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, INT64, &[1i64]), "can only be read");
}

#[test]
fn descriptors_are_used_finalized_and_set_before() {
    let Some(_gpu) = Gpu::new() else { return };
    let tensor = Tensor::new(1, INPUT).build().unwrap();
    refused(set(tensor, Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, INT64, &[2i64]), "the tensor is finalized");
    refused(finalize(tensor), "finalized already");
    let unfinished = create(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    let [filter, output] = [Tensor::new(2, FILTER), Tensor::new(3, OUTPUT)].map(|tensor| tensor.build().unwrap());
    refused(forward([unfinished, filter, output]), "is a tensor that is not finalized");
    refused(forward([window(FLOAT).unwrap(), filter, output]), "is a convolution, not a tensor");
    let mut count = 0;
    // SAFETY: nothing is written but the count.
    let read = unsafe {
        sys::cudnnBackendGetAttribute(unfinished, Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, INT64, 0, &mut count, ptr::null_mut())
    };
    refused(words(read), "the tensor is not finalized");
    // SAFETY: destroyed once; the second time is the fault.
    assert!(unsafe { words(sys::cudnnBackendDestroyDescriptor(unfinished)) }.is_ok());
    // SAFETY: the library looks the pointer up before it uses it.
    refused(unsafe { words(sys::cudnnBackendDestroyDescriptor(unfinished)) }, "does not exist, or no longer");
}

#[test]
fn tensors_must_be_packed_with_channels_innermost_and_aligned_to_their_elements() {
    let Some(_gpu) = Gpu::new() else { return };
    let tensor = Tensor::new(1, INPUT);
    refused(tensor.with_strides([128, 16, 4, 1]), "not those of packed NHWC, 128 1 32 8");
    refused(Tensor { alignment: 3, ..Tensor::new(1, INPUT) }.build(), "no multiple of its 2-byte elements");
    refused(Tensor::new(1, [2, 0, 4, 4]).build(), "a size of 0");
    refused(Tensor { data_type: sys::cudnnDataType_t::CUDNN_DATA_INT8, ..tensor }.build(), "NOT_SUPPORTED_DATA_TYPE");
}

#[test]
fn shapes_and_formats_of_a_convolution_must_fit() {
    let Some(_gpu) = Gpu::new() else { return };
    let [input, filter, output] =
        [Tensor::new(1, INPUT), Tensor::new(2, FILTER), Tensor::new(3, OUTPUT)].map(|tensor| tensor.build().unwrap());
    assert!(graph(&[forward([input, filter, output]).unwrap()]).is_ok());
    let narrow = Tensor::new(2, [16, 4, 3, 3]).build().unwrap();
    refused(forward([input, narrow, output]), "input of 8 channels, filter for 4");
    let small = Tensor::new(3, [2, 16, 3, 4]).build().unwrap();
    refused(forward([input, filter, small]), "the convolution gives 2 x 16 x 4 x 4");
    refused(window(sys::cudnnDataType_t::CUDNN_DATA_HALF), "sums must be taken in 32 bit");
    let wide = Tensor { data_type: FLOAT, ..Tensor::new(3, OUTPUT) }.build().unwrap();
    refused(graph(&[forward([input, filter, wide]).unwrap()]), "data types 2 and 0 in one convolution");
    let unstored = Tensor { data_type: FLOAT, is_virtual: true, ..Tensor::new(3, OUTPUT) }.build().unwrap();
    refused(graph(&[forward([input, filter, unstored]).unwrap()]), "its result, tensor 3, is virtual");
    let same_name = Tensor::new(1, OUTPUT).build().unwrap();
    refused(graph(&[forward([input, filter, same_name]).unwrap()]), "two different tensors are called 1");
}

/// A plan of a forward convolution for a handle, by the first engine.
fn plan(handle: sys::cudnnHandle_t) -> Raw {
    let tensors = [Tensor::new(1, INPUT), Tensor::new(2, FILTER), Tensor::new(3, OUTPUT)];
    let operation = forward(tensors.map(|tensor| tensor.build().unwrap())).unwrap();
    let graph = create(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(graph, Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, DESCRIPTOR, &[operation]).unwrap();
    set(graph, Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle]).unwrap();
    finalize(graph).unwrap();
    let heuristic = create(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    let mode = sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_FALLBACK;
    set(heuristic, Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, DESCRIPTOR, &[graph]).unwrap();
    set(heuristic, Name::CUDNN_ATTR_ENGINEHEUR_MODE, Type::CUDNN_TYPE_HEUR_MODE, &[mode]).unwrap();
    finalize(heuristic).unwrap();
    let mut configuration = create(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    let (mut count, results) = (0, Name::CUDNN_ATTR_ENGINEHEUR_RESULTS);
    // SAFETY: there is room for one descriptor.
    let read =
        unsafe { sys::cudnnBackendGetAttribute(heuristic, results, DESCRIPTOR, 1, &mut count, (&raw mut configuration).cast()) };
    words(read).unwrap();
    let plan = create(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(plan, Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, DESCRIPTOR, &[configuration]).unwrap();
    set(plan, Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Type::CUDNN_TYPE_HANDLE, &[handle]).unwrap();
    finalize(plan).unwrap();
    plan
}

fn pack(ids: &[i64], addresses: &[u64], workspace: u64) -> Result<Raw, String> {
    let raw = create(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(raw, Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, INT64, ids)?;
    set(raw, Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Type::CUDNN_TYPE_VOID_PTR, addresses)?;
    set(raw, Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Type::CUDNN_TYPE_VOID_PTR, &[workspace])?;
    finalize(raw).map(|()| raw)
}

#[test]
fn an_execution_needs_every_tensor_aligned_in_device_memory_and_its_workspace() {
    let Some(gpu) = Gpu::new() else { return };
    let mut handle = ptr::null_mut();
    // SAFETY: the result is written before it is read; the stream is alive.
    unsafe {
        words(sys::cudnnCreate(&mut handle)).unwrap();
        words(sys::cudnnSetStream(handle, gpu.stream.cu_stream().cast())).unwrap();
    }
    let plan = plan(handle);
    let buffer = gpu.stream.alloc_zeros::<u8>(1 << 16).unwrap();
    let start = buffer.device_ptr(&gpu.stream).0;
    let at = [start, start + 4096, start + 16384];
    // The fallback engine has a workspace.
    let scratch = start + 32768;
    let execute = |pack: Result<Raw, String>| {
        let pack = pack?;
        // SAFETY: the faults are in the pack, and the library looks before it runs.
        words(unsafe { sys::cudnnBackendExecute(handle, plan, pack) })
    };
    execute(pack(&[1, 2, 3], &at, scratch)).unwrap();
    refused(execute(pack(&[1, 2], &at, scratch)), "2 tensors, but 3 addresses");
    refused(execute(pack(&[1, 2, 2], &at, scratch)), "a tensor is named twice");
    refused(execute(pack(&[1, 2], &at[..2], scratch)), "tensor 3 is not in the variant pack");
    refused(execute(pack(&[1, 2, 9], &at, scratch)), "the graph stores no tensor 9");
    refused(execute(pack(&[1, 2, 3], &[at[0], at[1] + 8, at[2]], scratch)), "tensor 2 is 8 bytes off its alignment of 16");
    refused(execute(pack(&[1, 2, 3], &[at[0], 0, at[2]], scratch)), "tensor 2 has no address");
    refused(execute(pack(&[1, 2, 3], &[at[0], at[1], at[0]], scratch)), "the result overwrites tensor 1");
    refused(execute(pack(&[1, 2, 3], &at, 0)), "bytes of workspace are needed, none are given");
    refused(execute(pack(&[1, 2, 3], &at, scratch + 4)), "the workspace is not aligned");
    refused(execute(pack(&[1, 2, 3], &[at[0], at[1], start + 65000 / 16 * 16], scratch)), "outside of device memory");
    // SAFETY: the plan has no use for it, which is the fault.
    refused(words(unsafe { sys::cudnnBackendExecute(handle, pack(&[1, 2, 3], &at, scratch).unwrap(), plan) }), "DESCRIPTOR_TYPE");
    gpu.stream.synchronize().unwrap();
    software_gpu::take_reports();
    // SAFETY: destroyed once.
    unsafe { words(sys::cudnnDestroy(handle)) }.unwrap();
}

/// `status` of a call, and what the software GPU said about it.
#[track_caller]
fn blas_refused<T>(outcome: Result<T, result::CublasError>, expected: &str) {
    assert!(outcome.is_err());
    let reports = software_gpu::take_reports().join("; ");
    assert!(reports.contains(expected), "must be refused with `{expected}`, found `{reports}`");
}

#[test]
fn cublaslt_checks_types_shapes_and_attributes() {
    let Some(_gpu) = Gpu::new() else { return };
    let single = blas::cudaDataType::CUDA_R_32F;
    blas_refused(result::create_matrix_layout(blas::cudaDataType::CUDA_R_8I, 8, 8, 8), "of an unknown type");
    blas_refused(result::create_matmul_desc(blas::cublasComputeType_t::CUBLAS_COMPUTE_16F, single), "not of 32 bit");
    let operation = result::create_matmul_desc(blas::cublasComputeType_t::CUBLAS_COMPUTE_32F, single).unwrap();
    let layout = |kind, rows, columns, leading| result::create_matrix_layout(kind, rows, columns, leading).unwrap();
    let handle = result::create_handle().unwrap();
    let preference = result::create_matmul_pref().unwrap();
    let choose = |[a, b, d]: [blas::cublasLtMatrixLayout_t; 3]| {
        // SAFETY: all objects are alive.
        unsafe { result::get_matmul_algo_heuristic(handle, operation, a, b, d, d, preference) }
    };
    let square = layout(single, 8, 8, 8);
    assert!(choose([square; 3]).is_ok());
    blas_refused(choose([layout(single, 8, 4, 8), square, square]), "shapes that do not fit together");
    blas_refused(choose([layout(single, 8, 8, 4), square, square]), "columns that overlap");
    blas_refused(choose([layout(single, 8, 8, 9), square, square]), "less aligned than was promised");
    blas_refused(choose([layout(blas::cudaDataType::CUDA_R_16F, 8, 8, 8), square, square]), "of different types");
    let value = 1i32;
    let unknown = blas::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_FAST_ACCUM;
    let transpose = blas::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
    let attribute = |name, bytes| {
        // SAFETY: no more than four bytes are read.
        unsafe { result::set_matmul_desc_attribute(operation, name, (&raw const value).cast::<c_void>(), bytes) }
    };
    blas_refused(attribute(unknown, 4), "that the software GPU has not");
    blas_refused(attribute(transpose, 2), "an attribute of another size");
    // SAFETY: destroyed once each; the second destruction is the fault.
    unsafe {
        result::destroy_matmul_desc(operation).unwrap();
        blas_refused(result::destroy_matmul_desc(operation), "does not exist, or no longer");
        result::destroy_matmul_pref(preference).unwrap();
        result::destroy_handle(handle).unwrap();
    }
}
