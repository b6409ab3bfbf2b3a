//! Work that is much the same every time, put on the stream as one piece.
//!
//! While a step runs under [`Storage::capture`](crate::device::Storage::capture), what it would put on the stream waits in a queue; what it uploads goes
//! to blocks that no waiting work writes, at once. At the end the queue is compared with that of the step before, operation by operation
//! and argument by argument. Work that came twice is captured in a CUDA graph; from then on a step whose queue is equal to the graph's is
//! one launch, and one whose queue is not runs operation by operation and starts over. So shapes, addresses and schedules may change at
//! any time, and what changes every step (labels, crops, rates, rows in use) has only to be uploaded rather than passed by value.
//!
//! A graph keeps the scratch memory that its work uses. Memory that belongs to somebody is checked by the comparison: its address stands
//! in the arguments that the step has just made from it.

use super::Cuda;
use super::memory::{DeviceMemory, Pool};
use crate::device::cuda::kernel::device_error;
use crate::error::{Error, Result};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream};
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Everything that decides what an operation does, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(Vec<u8>);

impl Mark {
    /// Of an operation of this kind with these arguments.
    pub fn of(kind: &str, arguments: &impl Hash) -> Self {
        let mut mark = Self(kind.as_bytes().to_vec());
        arguments.hash(&mut mark);
        mark
    }

    /// The same with more arguments.
    pub fn and(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Keeps what is to be hashed.
impl Hasher for Mark {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// An operation, ready to be put on the stream.
pub(super) type Work = Box<dyn FnOnce(&Cuda) -> Result<()> + Send>;

/// What a step has asked for so far.
#[derive(Default)]
pub(super) struct Queue {
    marks: Vec<Mark>,
    work: Vec<Work>,
    /// Blocks handed out for scratch, in order.
    scratch: Vec<Block>,
    /// Blocks handed out for uploads, in order.
    uploads: Vec<Arc<DeviceMemory>>,
    /// Answers requests while they are those of the recorded step.
    recorded: Option<Recorded>,
    lent: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    asked: usize,
    address: u64,
    bytes: usize,
}

/// A step that was captured.
#[derive(Debug)]
struct Recorded {
    marks: Vec<Mark>,
    scratch: Vec<Block>,
    uploads: Vec<Arc<DeviceMemory>>,
    /// Those of the scratch blocks that are nobody else's.
    #[expect(dead_code, reason = "held for the graph")]
    owned: Vec<DeviceMemory>,
    graph: Graph,
}

/// What is known of a step that is repeated: see [`crate::device::Storage::capture`].
#[derive(Debug, Default)]
pub struct StepGraph {
    recorded: Option<Recorded>,
    last: Vec<Mark>,
    /// Steps that were one launch.
    pub replays: u64,
    /// Graphs that were captured.
    pub captures: u64,
}

impl Queue {
    pub fn following(repeated: &mut StepGraph) -> Self {
        Self { recorded: repeated.recorded.take(), ..Self::default() }
    }

    pub fn push(&mut self, mark: Mark, work: Work) {
        self.marks.push(mark);
        self.work.push(work);
    }

    /// Scratch memory: the recorded step's where it asked for the same.
    pub fn scratch(&mut self, pool: &Arc<Pool>, asked: usize) -> Result<DeviceMemory> {
        let recorded = self.recorded.as_ref().and_then(|recorded| recorded.scratch.get(self.scratch.len()));
        let memory = match recorded.filter(|block| block.asked == asked && block.address != 0) {
            Some(block) => DeviceMemory::lent(block.address, block.bytes, &self.lent),
            None => pool.allocate(asked)?,
        };
        self.scratch.push(Block { asked, address: memory.address(), bytes: memory.bytes() });
        Ok(memory)
    }

    /// Memory to upload to before the waiting work runs. It lasts as long as the step.
    pub fn upload(&mut self, pool: &Arc<Pool>, bytes: usize) -> Result<DeviceMemory> {
        let recorded = self.recorded.as_ref().and_then(|recorded| recorded.uploads.get(self.uploads.len()));
        let memory = match recorded.filter(|memory| memory.bytes() >= bytes) {
            Some(memory) => memory.clone(),
            None => Arc::new(pool.allocate_untouched(bytes.next_power_of_two())?),
        };
        self.uploads.push(memory.clone());
        Ok(DeviceMemory::lent(memory.address(), memory.bytes(), &self.lent))
    }

    /// Puts everything on the stream, operation by operation.
    pub fn run(&mut self, cuda: &Cuda) -> Result<()> {
        std::mem::take(&mut self.work).into_iter().try_for_each(|work| work(cuda))
    }

    /// Puts everything on the stream in the way that suits it.
    pub fn finish(mut self, cuda: &Cuda, repeated: &mut StepGraph) -> Result<()> {
        if self.lent.load(Ordering::Relaxed) > 0 {
            // Somebody keeps a block of the recorded step: it is given up rather than used for two purposes.
            std::mem::forget((self.recorded.take(), self.uploads.clone()));
        }
        if let Some(recorded) = self.recorded.take_if(|recorded| recorded.marks == self.marks) {
            repeated.replays += 1;
            let outcome = recorded.graph.launch();
            repeated.recorded = Some(recorded);
            return outcome;
        }
        if repeated.last != self.marks || self.marks.is_empty() {
            self.run(cuda)?;
            repeated.last = self.marks;
            return Ok(());
        }
        let graph = self.capture(cuda)?;
        graph.launch()?;
        repeated.captures += 1;
        repeated.recorded = Some(self.into_recorded(cuda, graph));
        Ok(())
    }

    fn capture(&mut self, cuda: &Cuda) -> Result<Graph> {
        let stream = cuda.stream();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(failed("beginning"))?;
        let outcome = self.run(cuda);
        let graph = stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
        outcome?;
        let empty = || Error::Device { what: "capturing a step".into(), reason: "the graph is empty".into() };
        let graph = graph.map_err(failed("ending"))?.ok_or_else(empty)?;
        Ok(Graph { graph, stream: stream.clone() })
    }

    fn into_recorded(self, cuda: &Cuda, graph: Graph) -> Recorded {
        let wanted: HashSet<u64> = self.scratch.iter().map(|block| block.address).collect();
        let owned = cuda.pool().take(&wanted);
        let held: HashSet<u64> = owned.iter().map(DeviceMemory::address).collect();
        // A block that somebody has kept is not scratch: a step that asks for it again is another step.
        let kept = |block: Block| if held.contains(&block.address) { block } else { Block { address: 0, ..block } };
        Recorded { marks: self.marks, scratch: self.scratch.into_iter().map(kept).collect(), uploads: self.uploads, owned, graph }
    }
}

/// A captured step, ready to run.
struct Graph {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
}

// SAFETY: a graph may be used by one thread after another; it is only reached through a unique reference.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    fn launch(&self) -> Result<()> {
        self.graph.launch().map_err(device_error("running a captured step"))
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // It may be running. A device that has failed runs nothing.
        let _ = self.stream.synchronize();
    }
}

fn failed(what: &str) -> impl FnOnce(cudarc::driver::DriverError) -> Error {
    let what = format!("{what} the capture of a step (--no-graph does without)");
    move |error| Error::Device { what, reason: format!("{error:?}") }
}
