//! Neighbour search on a GPU: `kernels/retrieval.cu`, on 16-bit rows of the lengths that it has a tiling for. Other rows are searched by
//! the host, exactly as the CPU backend does.

use super::{Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::device::cuda::DeviceMemory;
use crate::device::cuda::kernel::{Format, LaunchShape};
use crate::device::{Cpu, Cuda, Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use crate::kernel_args::retrieval::{
    BINS, CANDIDATES, MAX_DEPTH, PASSES, RetrievalParams, kernel, rank_shape, select_shape, sort_shape,
};
use crate::kernel_args::tiling::Tiling;
use crate::ops::{IntegersOut, Out};

/// Queries whose neighbours are looked for at once: a query's histogram and candidates take 24 KiB.
const QUERIES_AT_ONCE: usize = 4096;

impl Retrieval for Cuda {
    fn best_positive_rank(
        &self,
        geometry: &RetrievalGeometry,
        inputs: RetrievalInputs<'_, Self>,
        ranks: IntegersOut<'_, Self>,
    ) -> Result<()> {
        expect_len("ranks", geometry.queries, ranks.len)?;
        let Some(tiling) = self.search_tiling(geometry) else {
            let mut found = vec![0; geometry.queries];
            let host = Host::new(self, geometry, &inputs)?;
            host.cpu.best_positive_rank(geometry, host.inputs(), SpanMut::all(&mut found))?;
            return self.upload_integers(&found, ranks);
        };
        check(geometry, &inputs)?;
        if geometry.queries == 0 {
            return Ok(());
        }
        let search = Search::new(self, geometry, tiling, &inputs, 0..geometry.queries)?;
        let bytes = geometry.queries * size_of::<u32>();
        let (best, counts) = (self.zeroed_scratch(bytes)?, self.zeroed_scratch(bytes)?);
        let (best, counts) = (best.address(), counts.address());
        let params = RetrievalParams { best, counts, ranks: self.integers(ranks.read()), ..search.params };
        // SAFETY: the inputs have the lengths of this geometry, checked above; the other buffers were made for it.
        unsafe {
            search.launch("best", params)?;
            search.launch("count", params)?;
            self.launch("retrieval", "retrieval_ranks", rank_shape(geometry.queries), params)?;
        }
        search.check_finite()
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
        let Some(tiling) = self.search_tiling(geometry).filter(|_| depth <= MAX_DEPTH) else {
            let (mut found, mut values) = (vec![0; rows.len], vec![0.0; similarities.len]);
            let host = Host::new(self, geometry, &inputs)?;
            host.cpu.nearest(geometry, depth, host.inputs(), SpanMut::all(&mut found), SpanMut::all(&mut values))?;
            self.upload_integers(&found, rows)?;
            return self.upload(&values, similarities);
        };
        check(geometry, &inputs)?;
        if depth == 0 || geometry.queries == 0 {
            return Ok(());
        }
        let (rows, similarities) = (self.integers(rows.read()), self.address_mut(&mut similarities));
        for first in (0..geometry.queries).step_by(QUERIES_AT_ONCE) {
            let queries = first..(first + QUERIES_AT_ONCE).min(geometry.queries);
            let offset = (first * depth * size_of::<f32>()) as u64;
            let search = Search::new(self, geometry, tiling, &inputs, queries)?;
            search.nearest(depth, rows + offset, similarities + offset)?;
            search.check_finite()?;
        }
        Ok(())
    }
}

impl Cuda {
    /// `None` for the host.
    fn search_tiling(&self, geometry: &RetrievalGeometry) -> Option<Tiling> {
        Tiling::new(geometry.dim, self.shared_limit()).filter(|_| self.format() != Format::F32 && geometry.gallery > 0)
    }
}

/// A range of queries against the gallery.
struct Search<'a> {
    cuda: &'a Cuda,
    params: RetrievalParams,
    tiling: Tiling,
    tiled: LaunchShape,
    not_finite: DeviceMemory,
    queries: usize,
}

impl<'a> Search<'a> {
    fn new(
        cuda: &'a Cuda,
        geometry: &RetrievalGeometry,
        tiling: Tiling,
        inputs: &RetrievalInputs<'_, Cuda>,
        queries: std::ops::Range<usize>,
    ) -> Result<Self> {
        // The kernel of most registers: the others fit where it does.
        let name = kernel("histogram", cuda.format(), &tiling);
        let resident = cuda.resident_blocks::<RetrievalParams>("retrieval", &name, tiling.threads(), tiling.shared_bytes())?;
        let splits = tiling.splits(queries.len(), geometry.gallery, resident);
        let not_finite = cuda.zeroed_scratch(size_of::<u32>())?;
        let first = |address: u64, bytes: usize| address + (queries.start * bytes) as u64;
        let params = RetrievalParams {
            queries: first(cuda.address_in(inputs.queries, cuda.format())?, geometry.dim * 2),
            gallery: cuda.address_in(inputs.gallery, cuda.format())?,
            query_labels: first(cuda.integers(inputs.query_labels), size_of::<i32>()),
            gallery_labels: cuda.integers(inputs.gallery_labels),
            own_rows: first(cuda.integers(inputs.own_rows), size_of::<i32>()),
            not_finite: not_finite.address(),
            query_count: queries.len() as u32,
            gallery_count: geometry.gallery as u32,
            tiles_per_split: splits.tiles as u32,
            dim: geometry.dim as u32,
            ..RetrievalParams::default()
        };
        let tiled = tiling.shape(queries.len(), splits);
        Ok(Self { cuda, params, tiling, tiled, not_finite, queries: queries.len() })
    }

    /// # Safety
    /// As [`crate::device::cuda::kernel::Kernel::launch`].
    unsafe fn launch(&self, what: &str, params: RetrievalParams) -> Result<()> {
        let name = kernel(what, self.cuda.format(), &self.tiling);
        // SAFETY: the caller's promise.
        unsafe { self.cuda.launch("retrieval", &name, self.tiled, params) }
    }

    /// Rows and similarities `(queries, depth)` at these addresses.
    fn nearest(&self, depth: usize, rows: u64, similarities: u64) -> Result<()> {
        let (cuda, words) = (self.cuda, self.queries * size_of::<u32>());
        let (thresholds, above, done) = (cuda.zeroed_scratch(2 * words)?, cuda.zeroed_scratch(words)?, cuda.zeroed_scratch(words)?);
        let histograms = cuda.zeroed_scratch(words * BINS)?;
        let (candidates, candidate_counts) = (cuda.scratch(2 * words * CANDIDATES)?, cuda.zeroed_scratch(words)?);
        let params = RetrievalParams {
            thresholds: thresholds.address(),
            above: above.address(),
            done: done.address(),
            histograms: histograms.address(),
            candidates: candidates.address(),
            candidate_counts: candidate_counts.address(),
            rows,
            similarities,
            depth: depth as u32,
            ..self.params
        };
        // SAFETY: the caller has checked inputs and outputs; the other buffers were made for these queries just now.
        unsafe {
            for pass in 0..PASSES {
                let params = RetrievalParams { pass, ..params };
                self.launch("histogram", params)?;
                cuda.launch("retrieval", "retrieval_select", select_shape(self.queries), params)?;
            }
            self.launch("collect", params)?;
            cuda.launch("retrieval", "retrieval_sort", sort_shape(self.queries), params)
        }
    }

    fn check_finite(&self) -> Result<()> {
        let mut query = [0u32];
        self.cuda.read(self.not_finite.address(), &mut query)?;
        match query[0] {
            0 => Ok(()),
            query => Err(Error::NotFinite { what: "similarities of queries", row: query as usize - 1 }),
        }
    }
}

/// A search on the host.
struct Host {
    cpu: Cpu,
    queries: Vec<f32>,
    query_labels: Vec<i32>,
    gallery: Vec<f32>,
    gallery_labels: Vec<i32>,
    own_rows: Vec<i32>,
}

impl Host {
    fn new(cuda: &Cuda, geometry: &RetrievalGeometry, inputs: &RetrievalInputs<'_, Cuda>) -> Result<Self> {
        check(geometry, inputs)?;
        let integers = |span: Span<'_, _>| {
            let mut values = vec![0; span.len];
            cuda.download_integers(span, &mut values).map(|()| values)
        };
        let numbers = |span: Span<'_, _>| {
            let mut values = vec![0.0; span.len];
            cuda.download(span, &mut values).map(|()| values)
        };
        Ok(Self {
            cpu: Cpu::new(None)?,
            queries: numbers(inputs.queries)?,
            query_labels: integers(inputs.query_labels)?,
            gallery: numbers(inputs.gallery)?,
            gallery_labels: integers(inputs.gallery_labels)?,
            own_rows: integers(inputs.own_rows)?,
        })
    }

    fn inputs(&self) -> RetrievalInputs<'_, Cpu> {
        RetrievalInputs {
            queries: Span::all(&self.queries),
            query_labels: Span::all(&self.query_labels),
            gallery: Span::all(&self.gallery),
            gallery_labels: Span::all(&self.gallery_labels),
            own_rows: Span::all(&self.own_rows),
        }
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
