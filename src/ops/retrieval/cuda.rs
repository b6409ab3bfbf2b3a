//! Neighbour search on a GPU: cuBLASLt writes the similarities of a few queries with the whole gallery, `kernels/retrieval.cu` reads
//! them while they are in second-level cache.

use super::{Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::device::Cuda;
use crate::device::cublaslt::{Matmul, Matrices};
use crate::device::cuda::DeviceMemory;
use crate::device::cuda::kernel::{Format, LaunchShape};
use crate::device::cuda::width;
use crate::error::{Error, Result, expect_len};
use crate::kernel_args::retrieval::{RetrievalParams, nearest_shape, queries_at_once, rank_shape};
use crate::ops::{IntegersOut, Out};

/// Numbers of a row of similarities are a multiple of this, so that every row begins on 16 bytes.
const ROW_MULTIPLE: usize = 4;

impl Retrieval for Cuda {
    fn best_positive_rank(
        &self,
        geometry: &RetrievalGeometry,
        inputs: RetrievalInputs<'_, Self>,
        ranks: IntegersOut<'_, Self>,
    ) -> Result<()> {
        expect_len("ranks", geometry.queries, ranks.len)?;
        let ranks = self.integers(ranks.read());
        Search::new(self, geometry, inputs)?.each_block(|block| {
            let params = RetrievalParams { ranks: ranks + block.first_query as u64 * 4, ..block.params };
            // SAFETY: the inputs and ranks have the lengths of this geometry, the similarities have just been written.
            unsafe { block.launch("retrieval_rank", rank_shape(block.queries), params) }
        })
    }

    fn nearest(
        &self,
        geometry: &RetrievalGeometry,
        depth: usize,
        inputs: RetrievalInputs<'_, Self>,
        rows: IntegersOut<'_, Self>,
        mut similarities: Out<'_, Self>,
    ) -> Result<()> {
        expect_len("rows", geometry.queries * depth, rows.len)?;
        expect_len("similarities", geometry.queries * depth, similarities.len)?;
        let (rows, nearest) = (self.integers(rows.read()), self.address_mut(&mut similarities));
        let search = Search::new(self, geometry, inputs)?;
        let Ok(wanted) = u32::try_from(depth) else {
            return Err(Error::shape("neighbours of a query", format_args!("at most {}", u32::MAX), depth));
        };
        if depth == 0 {
            return Ok(());
        }
        search.each_block(|block| {
            let offset = (block.first_query * depth * size_of::<f32>()) as u64;
            let params = RetrievalParams { rows: rows + offset, nearest: nearest + offset, depth: wanted, ..block.params };
            // SAFETY: as for the ranks.
            unsafe { block.launch("retrieval_nearest", nearest_shape(block.queries), params) }
        })
    }
}

/// The checked inputs of a retrieval, and memory for the similarities of as many queries as are searched at once.
struct Search<'a> {
    cuda: &'a Cuda,
    geometry: RetrievalGeometry,
    queries: u64,
    gallery: u64,
    params: RetrievalParams,
    queries_at_once: usize,
    similarities: DeviceMemory,
    not_finite: DeviceMemory,
}

/// Queries whose similarities with the gallery have been written.
struct Block<'a> {
    cuda: &'a Cuda,
    first_query: usize,
    queries: usize,
    params: RetrievalParams,
}

impl<'a> Search<'a> {
    fn new(cuda: &'a Cuda, geometry: &RetrievalGeometry, inputs: RetrievalInputs<'_, Cuda>) -> Result<Self> {
        check(geometry, &inputs)?;
        let stride = geometry.gallery.next_multiple_of(ROW_MULTIPLE);
        let queries_at_once = queries_at_once(geometry.gallery, geometry.dim * width(cuda.format()), cuda.second_level_cache())
            .clamp(1, geometry.queries.max(1));
        let not_finite = cuda.zeroed_scratch(size_of::<u32>())?;
        let similarities = cuda.scratch(queries_at_once * stride * width(Format::F32))?;
        let params = RetrievalParams {
            similarities: similarities.address(),
            query_labels: cuda.integers(inputs.query_labels),
            gallery_labels: cuda.integers(inputs.gallery_labels),
            own_rows: cuda.integers(inputs.own_rows),
            not_finite: not_finite.address(),
            stride: stride as u64,
            gallery_count: geometry.gallery as u32,
            ..RetrievalParams::default()
        };
        let queries = cuda.address_in(inputs.queries, cuda.format())?;
        let gallery = cuda.address_in(inputs.gallery, cuda.format())?;
        Ok(Self { cuda, geometry: *geometry, queries, gallery, params, queries_at_once, similarities, not_finite })
    }

    /// Calls `visit` for every block of queries once their similarities have been put on the stream.
    ///
    /// # Errors
    /// Those of `visit`; [`Error::NotFinite`] if a similarity was not finite.
    fn each_block(&self, visit: impl Fn(&Block<'a>) -> Result<()>) -> Result<()> {
        for first in (0..self.geometry.queries).step_by(self.queries_at_once) {
            let queries = self.queries_at_once.min(self.geometry.queries - first);
            self.multiply(first, queries)?;
            let integers = (first * size_of::<i32>()) as u64;
            let params = RetrievalParams {
                query_labels: self.params.query_labels + integers,
                own_rows: self.params.own_rows + integers,
                first_query: first as u32,
                ..self.params
            };
            visit(&Block { cuda: self.cuda, first_query: first, queries, params })?;
        }
        let mut query = [0u32];
        self.cuda.read(self.not_finite.address(), &mut query)?;
        match query[0] {
            0 => Ok(()),
            query => Err(Error::NotFinite { what: "similarities of queries", row: query as usize - 1 }),
        }
    }

    /// Puts the product of these queries and the gallery on the stream.
    fn multiply(&self, first: usize, queries: usize) -> Result<()> {
        let RetrievalGeometry { gallery, dim, .. } = self.geometry;
        if gallery == 0 {
            return Ok(());
        }
        let format = self.cuda.format();
        // Neighbours are exact: numbers of 32 bits are multiplied as they are.
        let stride = self.params.stride as usize;
        let product =
            Matmul { output_stride: stride, exact: true, ..Matmul::packed([queries, gallery, dim], format).right_transposed() };
        let left = self.queries + (first * dim * width(format)) as u64;
        let matrices = Matrices { left, right: self.gallery, output: self.similarities.address(), bias: 0 };
        // SAFETY: the inputs have the lengths of this geometry, and the output was made for as many queries.
        unsafe { self.cuda.matmul(&product, 1.0, &matrices) }
    }
}

impl Block<'_> {
    /// # Safety
    /// As [`crate::device::cuda::kernel::Kernel::launch`].
    unsafe fn launch(&self, kernel: &str, shape: LaunchShape, params: RetrievalParams) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.cuda.launch("retrieval", kernel, shape, params) }
    }
}

fn check(geometry: &RetrievalGeometry, inputs: &RetrievalInputs<'_, Cuda>) -> Result<()> {
    let &RetrievalGeometry { queries, gallery, dim } = geometry;
    if dim == 0 || i32::try_from(gallery.max(queries)).is_err() {
        let found = format!("dim {dim}, {queries} queries, {gallery} gallery rows");
        return Err(Error::shape("retrieval", format_args!("a dim of at least 1 and at most {} rows", i32::MAX), found));
    }
    expect_len("queries", queries * dim, inputs.queries.len)?;
    expect_len("query labels", queries, inputs.query_labels.len)?;
    expect_len("gallery", gallery * dim, inputs.gallery.len)?;
    expect_len("gallery labels", gallery, inputs.gallery_labels.len)?;
    expect_len("own rows", queries, inputs.own_rows.len)
}
