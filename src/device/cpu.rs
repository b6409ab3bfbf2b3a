//! The host processor: 32-bit buffers, a pool of worker threads, and scratch memory that is allocated once.
//!
//! Determinism: operations split their work into ranges that depend on shapes only, never on the number of threads, and combine
//! partial sums in the order of the ranges. The same input gives the same bits on one thread and on sixty.

use super::aligned_buf::AlignedBuf;
use super::host_memory;
use super::{HostRows, NumberFormat, RowPrecision, Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use crate::group::{ALONE, Group};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Most worker threads: more than any machine's cores, and few enough for their stacks.
pub const MAX_THREADS: usize = 1024;

/// A number of worker threads, 0 for one per core, if it is within reason.
///
/// # Errors
/// [`Error::Config`] above [`MAX_THREADS`].
pub fn checked_threads(threads: usize) -> Result<usize> {
    if threads > MAX_THREADS {
        let words = format!("{threads} worker threads: expected at most {MAX_THREADS}; 0 is one per core (--threads)");
        return Err(Error::config(words));
    }
    Ok(threads)
}

/// The CPU backend. Cloning shares the thread pool and the scratch memory.
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<rayon::ThreadPool>,
    idle: Arc<Mutex<Vec<AlignedBuf>>>,
    group: Group,
}

impl Cpu {
    /// A backend with `threads` workers, or one per core.
    ///
    /// # Errors
    /// [`Error::Config`] if the threads cannot be started, or are more than [`MAX_THREADS`].
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let (threads, asked) = (checked_threads(threads.unwrap_or(0))?, std::env::var("RAYON_NUM_THREADS"));
        if let Some(asked) = asked.ok().and_then(|asked| asked.parse().ok()).filter(|_| threads == 0) {
            checked_threads(asked)?;
        }
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("xbm-cpu-{index}")).build().map_err(
                |error| Error::config(format!("cannot start the worker threads: {error}; ask for fewer with --threads")),
            )?;
        Ok(Self { pool: Arc::new(pool), idle: Arc::default(), group: ALONE.clone() })
    }

    /// The same as a rank of `group`.
    #[must_use]
    pub fn in_group(self, group: Group) -> Self {
        Self { group, ..self }
    }

    /// Number of worker threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on the pool, so that rayon's iterators inside it use this backend's threads.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Scratch memory of `len` numbers with undefined content, given back on drop and reused by later calls. It begins with a cache line.
    pub fn scratch(&self, len: usize) -> Scratch<'_> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = (0..idle.len()).filter(|&i| idle[i].len() >= len).min_by_key(|&i| idle[i].len());
        let mut buffer = match fitting.or_else(|| (0..idle.len()).max_by_key(|&i| idle[i].len())) {
            Some(index) => idle.swap_remove(index),
            None => AlignedBuf::new(),
        };
        drop(idle);
        buffer.grow(len);
        Scratch { buffer, len, home: &self.idle }
    }
}

/// Borrowed scratch memory; see [`Cpu::scratch`].
#[derive(Debug)]
pub struct Scratch<'a> {
    buffer: AlignedBuf,
    len: usize,
    home: &'a Mutex<Vec<AlignedBuf>>,
}

impl Deref for Scratch<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Storage for Cpu {
    type Buffer = Vec<f32>;
    type Integers = Vec<i32>;
    type Rows = HostRows;
    type StepGraph = ();

    fn description(&self) -> String {
        let each = match self.threads() {
            1 => "cpu, 1 thread".to_owned(),
            threads => format!("cpu, {threads} threads"),
        };
        if self.group.is_alone() { each } else { format!("{} ranks, each {each}", self.group.size()) }
    }

    fn group(&self) -> &Group {
        &self.group
    }

    fn gather_over_ranks(&self, what: &'static str, span: SpanMut<'_, Vec<f32>>) -> Result<()> {
        self.group.gather(what, span.into_slice())
    }

    fn sum_over_ranks(&self, what: &'static str, span: SpanMut<'_, Vec<f32>>) -> Result<()> {
        self.group.sum(what, span.into_slice())
    }

    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.run(work)
    }

    fn zeros(&self, len: usize, _format: NumberFormat) -> Result<Vec<f32>> {
        host_memory::zeros(len)
    }

    fn aligned_zeros(&self, len: usize, format: NumberFormat) -> Result<(Vec<f32>, usize)> {
        let buffer = self.zeros(len.saturating_add(AlignedBuf::SLACK), format)?;
        let first = AlignedBuf::first(&buffer);
        Ok((buffer, first))
    }

    fn zero_integers(&self, len: usize) -> Result<Vec<i32>> {
        host_memory::zeros(len)
    }

    fn upload(&self, from: &[f32], to: SpanMut<'_, Vec<f32>>) -> Result<()> {
        copy_slice("upload", from, to.into_slice())
    }

    fn download(&self, from: Span<'_, Vec<f32>>, to: &mut [f32]) -> Result<()> {
        copy_slice("download", from.as_slice(), to)
    }

    fn zero_rows(&self, len: usize, precision: RowPrecision) -> Result<HostRows> {
        match precision {
            RowPrecision::Compute => self.zeros(len, NumberFormat::Compute).map(HostRows::Full),
            RowPrecision::F16 => {
                // Zeroed pages, as there is no shortcut for a number of a crate: 16-bit zeros are zeros.
                Ok(HostRows::Half(bytemuck::allocation::cast_vec(host_memory::zeros::<u16>(len)?)))
            }
        }
    }

    fn upload_rows(&self, from: &[f32], to: SpanMut<'_, HostRows>) -> Result<()> {
        HostRows::write(from, to)
    }

    fn download_rows(&self, from: Span<'_, HostRows>, to: &mut [f32]) -> Result<()> {
        expect_len("rows read", to.len(), from.len)?;
        from.view().read(0, to);
        Ok(())
    }

    fn upload_integers(&self, from: &[i32], to: SpanMut<'_, Vec<i32>>) -> Result<()> {
        copy_slice("upload", from, to.into_slice())
    }

    fn download_integers(&self, from: Span<'_, Vec<i32>>, to: &mut [i32]) -> Result<()> {
        copy_slice("download", from.as_slice(), to)
    }

    fn copy(&self, from: Span<'_, Vec<f32>>, to: SpanMut<'_, Vec<f32>>) -> Result<()> {
        copy_slice("copy", from.as_slice(), to.into_slice())
    }

    fn copy_integers(&self, from: Span<'_, Vec<i32>>, to: SpanMut<'_, Vec<i32>>) -> Result<()> {
        copy_slice("copy", from.as_slice(), to.into_slice())
    }
}

fn copy_slice<T: Copy>(what: &str, from: &[T], to: &mut [T]) -> Result<()> {
    expect_len(what, to.len(), from.len())?;
    to.copy_from_slice(from);
    Ok(())
}
