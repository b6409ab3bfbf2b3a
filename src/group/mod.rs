//! Processes that train together: each is a rank of a [`Group`], and all that they ever say to each other goes through it.
//!
//! A process by itself is alone, and nothing here costs it anything but a look. Otherwise every rank takes the same steps and calls the
//! same functions in the same order; what they exchange is named, so that whoever waits in vain can say for what.
//!
//! There is one way to talk, [`Wire::exchange`], in which every rank has a message for every other one, and everything else is made of it:
//! * [`Group::gather`]: each rank has filled its part of an array, and gets the parts of the others;
//! * [`Group::fold`] and [`Group::sum`]: each rank adds up one part of the arrays of all, in the order of the ranks, and then the sums
//!   are gathered. The order is fixed, so equal runs on as many ranks give equal bits (a library's reduction promises no order). Of an
//!   array of `n` bytes each rank sends `2 n (ranks - 1) / ranks`;
//! * [`Group::collect`]: messages of any length, for what is said once in a while.
//!
//! It is called for in a handful of places: [`crate::train`] (embeddings, labels, gradients, running statistics), the memory's loss and
//! drift ([`crate::memory`], [`crate::ops::pair_loss`]), batch norms that ask for it, evaluation, and the records of a run.

mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod wire;

pub use launcher::{Launch, launched, launched_here};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use wire::{Message, Wire};

use crate::error::{Error, Result};
use crate::files::numbers;
use bytemuck::Pod;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a rank waits for another one, where nothing else was said.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that compute together with this one. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Group(Option<Arc<Ranks>>);

#[derive(Debug)]
struct Ranks {
    wire: Box<dyn Wire>,
    rank: usize,
    size: usize,
    patience_ms: AtomicU64,
    sent: AtomicU64,
    /// For what the others send of an array that is folded.
    room: Mutex<Vec<u64>>,
}

/// A process by itself.
pub static ALONE: Group = Group(None);

impl Group {
    /// Everybody at the ends of `wire`.
    pub fn new(wire: Box<dyn Wire>) -> Self {
        let (rank, size) = (wire.rank(), wire.size());
        if size < 2 {
            return Self(None);
        }
        let (patience_ms, sent) = (AtomicU64::new(PATIENCE.as_millis() as u64), AtomicU64::new(0));
        Self(Some(Arc::new(Ranks { wire, rank, size, patience_ms, sent, room: Mutex::default() })))
    }

    /// Whether there is nobody else.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this is the rank that speaks and writes for all.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank)
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.size)
    }

    /// This rank's part of `len` things that lie in the order of the ranks.
    pub fn part(&self, len: usize) -> Range<usize> {
        part(self.rank(), self.size(), len)
    }

    /// How long this rank waits for another one before it gives up.
    pub fn wait_at_most(&self, patience: Duration) {
        if let Some(ranks) = &self.0 {
            ranks.patience_ms.store(patience.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Bytes that this rank has sent to others so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |ranks| ranks.sent.load(Ordering::Relaxed))
    }

    /// Ends every rank, for this one cannot go on.
    pub fn abort(&self) {
        if let Some(ranks) = &self.0 {
            ranks.wire.abort();
        }
    }

    /// Completes an array of which this rank has filled [`Group::part`].
    ///
    /// # Errors
    /// [`Error::Group`] if another rank does not answer, or asks for something else.
    pub fn gather<T: Pod>(&self, what: &'static str, values: &mut [T]) -> Result<()> {
        let Some(ranks) = &self.0 else { return Ok(()) };
        let mut parts = ranks.split(values);
        let own = std::mem::take(&mut parts[ranks.rank]);
        let own: &[u8] = bytemuck::cast_slice(own);
        ranks.exchange(what, &vec![own; ranks.size], parts.into_iter().map(bytemuck::cast_slice_mut).collect())
    }

    /// The arrays of all ranks, as long as `own`, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn gather_parts<T: Pod>(&self, what: &'static str, own: &[T]) -> Result<Vec<T>> {
        let mut parts = vec![T::zeroed(); self.size() * own.len()];
        let part = self.part(parts.len());
        parts[part].copy_from_slice(own);
        self.gather(what, &mut parts)?;
        Ok(parts)
    }

    /// Adds up the arrays of all ranks, number by number, in the order of the ranks; every rank gets the sums.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn sum(&self, what: &'static str, values: &mut [f32]) -> Result<()> {
        self.fold(what, values, |sum, value| *sum += value)
    }

    /// The same with another way to `add` a value of the next rank.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn fold<T: Pod>(&self, what: &'static str, values: &mut [T], add: impl Fn(&mut T, T)) -> Result<()> {
        let Some(ranks) = &self.0 else { return Ok(()) };
        let own = self.part(values.len());
        if own.is_empty() && values.is_empty() {
            return Ok(());
        }
        let mut room = ranks.room.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = ranks.size * own.len() * size_of::<T>();
        room.resize(bytes.div_ceil(size_of::<u64>()), 0);
        let received: &mut [T] = bytemuck::cast_slice_mut(&mut bytemuck::cast_slice_mut::<u64, u8>(&mut room)[..bytes]);
        // A part of no values comes from nobody.
        let mut incoming: Vec<&mut [u8]> = received.chunks_mut(own.len().max(1)).map(bytemuck::cast_slice_mut).collect();
        incoming.resize_with(ranks.size, Default::default);
        let outgoing: Vec<&[u8]> =
            (0..ranks.size).map(|rank| bytemuck::cast_slice(&values[part(rank, ranks.size, values.len())])).collect();
        ranks.exchange(what, &outgoing, incoming)?;
        received[ranks.rank * own.len()..][..own.len()].copy_from_slice(&values[own.clone()]);
        let mut parts = received.chunks_exact(own.len().max(1));
        let sums = &mut values[own];
        if let Some(first) = parts.next() {
            sums.copy_from_slice(first);
        }
        parts.for_each(|part| sums.iter_mut().zip(part).for_each(|(sum, value)| add(sum, *value)));
        drop(room);
        self.gather(what, values)
    }

    /// What each rank says, of any length, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn collect(&self, what: &'static str, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.deliver(what, mine, |_| true)
    }

    /// The arrays of all ranks, each of any length, one after the other.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn concat<T: Pod>(&self, what: &'static str, own: &[T]) -> Result<Vec<T>> {
        Ok(numbers::from_bytes(&self.collect(what, bytemuck::cast_slice(own))?.concat()))
    }

    /// As [`Group::collect`], to the first rank only: the others get nothing but what they said themselves.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn collect_at_first(&self, what: &'static str, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.deliver(what, mine, |to| to == 0)
    }

    fn deliver(&self, what: &'static str, mine: &[u8], wanted: impl Fn(usize) -> bool) -> Result<Vec<Vec<u8>>> {
        let Some(ranks) = &self.0 else { return Ok(vec![mine.to_vec()]) };
        let lengths = self.gather_parts(what, &[mine.len() as u64])?;
        let received = |rank: usize| if rank != ranks.rank && wanted(ranks.rank) { lengths[rank] as usize } else { 0 };
        let mut said: Vec<Vec<u8>> = (0..ranks.size).map(|rank| vec![0; received(rank)]).collect();
        let outgoing: Vec<&[u8]> = (0..ranks.size).map(|rank| if wanted(rank) { mine } else { &[] }).collect();
        ranks.exchange(what, &outgoing, said.iter_mut().map(Vec::as_mut_slice).collect())?;
        said[ranks.rank] = mine.to_vec();
        Ok(said)
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// As [`Group::gather`].
    pub fn any(&self, what: &'static str, mine: bool) -> Result<bool> {
        Ok(if self.is_alone() { mine } else { self.gather_parts(what, &[u8::from(mine)])?.contains(&1) })
    }
}

impl Ranks {
    fn split<'a, T>(&self, mut values: &'a mut [T]) -> Vec<&'a mut [T]> {
        let len = values.len();
        let take = |rank| {
            let (first, rest) = std::mem::take(&mut values).split_at_mut(part(rank, self.size, len).len());
            values = rest;
            first
        };
        (0..self.size).map(take).collect()
    }

    /// Sends to each rank its message, and fills each buffer by what that rank sent.
    fn exchange(&self, what: &'static str, outgoing: &[&[u8]], incoming: Vec<&mut [u8]>) -> Result<()> {
        let outgoing = outgoing.iter().enumerate().filter(|(rank, bytes)| *rank != self.rank && !bytes.is_empty());
        let outgoing: Vec<_> = outgoing.map(|(rank, &bytes)| Message { rank, bytes }).collect();
        let incoming = incoming.into_iter().enumerate().filter(|(rank, bytes)| *rank != self.rank && !bytes.is_empty());
        let incoming = incoming.map(|(rank, bytes)| Message { rank, bytes }).collect();
        self.sent.fetch_add(outgoing.iter().map(|message| message.bytes.len() as u64).sum(), Ordering::Relaxed);
        self.wire.exchange(what, &outgoing, incoming, Duration::from_millis(self.patience_ms.load(Ordering::Relaxed)))
    }
}

/// A rank's part of `len` things in the order of the ranks: as even as it can be.
fn part(rank: usize, size: usize, len: usize) -> Range<usize> {
    rank * len / size..(rank + 1) * len / size
}

/// The MPI that this program was built with, or how to build it with one.
pub fn mpi_version() -> String {
    #[cfg(feature = "mpi")]
    return mpi::library_version();
    #[cfg(not(feature = "mpi"))]
    "not in this build; training on several processes needs one with `--features mpi`".to_owned()
}

/// The group in which a launcher has started this process.
///
/// # Errors
/// [`Error::Group`] if there is a launcher whose processes cannot be brought together, with what would do.
pub fn connect() -> Result<Group> {
    match launched() {
        None => Ok(ALONE.clone()),
        Some(Launch::Mpi(size)) => meet_over_mpi(size),
        Some(Launch::Torchrun(size)) => Err(Error::Group(format!(
            "started as one of {size} processes by torchrun, whose ranks meet over NCCL; this version's meet over MPI: start them with \
             `mpirun -n {size}`"
        ))),
    }
}

#[cfg(feature = "mpi")]
fn meet_over_mpi(size: usize) -> Result<Group> {
    let group = Group::new(Box::new(Mpi::connect()?));
    if group.size() == size {
        return Ok(group);
    }
    Err(Error::Group(format!(
        "the launcher started {size} processes, and MPI found {}: this program was built with another MPI than the launcher's, {}",
        group.size(),
        mpi_version()
    )))
}

#[cfg(not(feature = "mpi"))]
fn meet_over_mpi(size: usize) -> Result<Group> {
    Err(Error::Group(format!(
        "started as one of {size} processes of an MPI job, and this build has no MPI; build it with `--features mpi` (it needs the packages \
         libopenmpi-dev and libclang-dev), or start one process"
    )))
}

/// That `rank` waited in vain.
pub fn gave_up(rank: usize, what: &str, missing: &[usize], patience: Duration) -> Error {
    let names: Vec<String> = missing.iter().map(|rank| format!("rank {rank}")).collect();
    Error::Group(format!(
        "rank {rank} waited {} s for {what} of {}, which has ended, is stopped or does something else that long; go on from the last \
         checkpoint with --resume, on fewer processes too, or wait longer with --group-timeout",
        patience.as_secs_f64(),
        names.join(" and ")
    ))
}
