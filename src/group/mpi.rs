//! Ranks of an MPI job. Messages go from process to process (`MPI_Isend`, `MPI_Irecv`) and are asked after, never waited for inside the
//! library, so that a rank which does not answer has a name and a time.

use super::{Message, Wire, gave_up};
use crate::error::{Error, Result};
use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::Communicator;
use mpi::traits::AsRaw;
use mpi::{Threading, topology::SimpleCommunicator};
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of one message at most, as MPI counts them in a C `int`; what is longer goes in pieces.
const LONGEST: usize = 1 << 30;
/// For so long a rank only yields between two looks; then it sleeps, as ranks may share their cores.
const EAGER: Duration = Duration::from_micros(200);
/// Between two looks of a rank that sleeps.
const NAP: Duration = Duration::from_micros(50);

/// All processes that mpirun or a cluster's launcher started together.
pub struct Mpi {
    world: SimpleCommunicator,
    /// One exchange at a time: MPI was asked for no more. False once one has failed, after which its buffers may be gone.
    sound: Mutex<bool>,
    /// Ends MPI when it is dropped, which waits for the others.
    universe: ManuallyDrop<Universe>,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi(rank {} of {})", self.rank(), self.size())
    }
}

// SAFETY: the universe and the communicator are handles of a library that was asked for `MPI_THREAD_SERIALIZED` or better (`connect`
// fails otherwise), and every call through them after that is made under `sound`, but for `MPI_Abort`, which ends the process.
unsafe impl Send for Mpi {}
// SAFETY: as above.
unsafe impl Sync for Mpi {}

/// Name and version of the MPI that this program was built with.
pub fn library_version() -> String {
    mpi::environment::library_version().unwrap_or_default().lines().next().unwrap_or_default().trim_end_matches('\0').to_owned()
}

impl Mpi {
    /// Joins the processes that were started with this one.
    ///
    /// # Errors
    /// [`Error::Group`] if MPI is in use already, or cannot be called from a thread pool.
    pub fn connect() -> Result<Self> {
        let refused = |why: &str| Error::Group(format!("MPI: {why} ({})", library_version()));
        let (universe, threading) =
            mpi::initialize_with_threading(Threading::Serialized).ok_or_else(|| refused("it was started already"))?;
        if threading < Threading::Serialized {
            return Err(refused("it does not take calls from more than one thread; build it with MPI_THREAD_SERIALIZED"));
        }
        let world = universe.world();
        // SAFETY: both are handles of the library that was just started.
        unsafe { ffi::MPI_Comm_set_errhandler(world.as_raw(), ffi::RSMPI_ERRORS_RETURN) };
        Ok(Self { world, sound: Mutex::new(true), universe: ManuallyDrop::new(universe) })
    }

    fn check(&self, code: i32, what: &str, rank: usize) -> Result<()> {
        if code == ffi::MPI_SUCCESS as i32 {
            return Ok(());
        }
        Err(Error::Group(format!("rank {}: MPI reports error {code} on {what} of rank {rank}", self.rank())))
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if *self.sound.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: dropped here once, and not used after it.
            unsafe { ManuallyDrop::drop(&mut self.universe) };
        }
    }
}

impl Wire for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn exchange(
        &self,
        what: &'static str,
        outgoing: &[Message<&[u8]>],
        incoming: Vec<Message<&mut [u8]>>,
        patience: Duration,
    ) -> Result<()> {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut *sound) {
            return Err(Error::Group(format!("rank {}: MPI failed before and is not used again", self.rank())));
        }
        // What is sent by one name is not taken for what another name asks for.
        let tag = (crc32c::crc32c(what.as_bytes()) & 0x7fff) as i32;
        let mut pending = Vec::new();
        for Message { rank, bytes } in incoming {
            for piece in bytes.chunks_mut(LONGEST) {
                let (start, len, mut request) = (piece.as_mut_ptr().cast(), piece.len() as i32, no_request());
                // SAFETY: the piece outlives the request, which is complete when this function returns; where it fails instead, MPI is
                // never called again but to abort, and it moves no message outside of its calls.
                let code = unsafe {
                    ffi::MPI_Irecv(start, len, ffi::RSMPI_UINT8_T, rank as i32, tag, self.world.as_raw(), &raw mut request)
                };
                self.check(code, what, rank)?;
                pending.push(Pending { request, rank, expected: Some(len) });
            }
        }
        for &Message { rank, bytes } in outgoing {
            for piece in bytes.chunks(LONGEST) {
                let (start, len, mut request) = (piece.as_ptr().cast(), piece.len() as i32, no_request());
                // SAFETY: as above; MPI only reads the piece.
                let code = unsafe {
                    ffi::MPI_Isend(start, len, ffi::RSMPI_UINT8_T, rank as i32, tag, self.world.as_raw(), &raw mut request)
                };
                self.check(code, what, rank)?;
                pending.push(Pending { request, rank, expected: None });
            }
        }
        self.complete(what, pending, patience)?;
        *sound = true;
        Ok(())
    }

    fn abort(&self) {
        self.world.abort(1);
    }
}

/// A message under way.
struct Pending {
    request: ffi::MPI_Request,
    rank: usize,
    /// Bytes of what is received.
    expected: Option<i32>,
}

/// No request yet.
fn no_request() -> ffi::MPI_Request {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

impl Mpi {
    /// Looks after messages until all have come and gone.
    fn complete(&self, what: &str, mut pending: Vec<Pending>, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while !pending.is_empty() {
            let mut failure = None;
            pending.retain_mut(|message| match self.is_done(what, message) {
                Ok(done) => !done,
                Err(error) => {
                    failure.get_or_insert(error);
                    false
                }
            });
            if let Some(error) = failure {
                return Err(error);
            }
            match begun.elapsed() {
                waited if pending.is_empty() || waited < EAGER => thread::yield_now(),
                waited if waited < patience => thread::sleep(NAP),
                _ => {
                    let mut missing: Vec<usize> = pending.iter().map(|message| message.rank).collect();
                    missing.sort_unstable();
                    missing.dedup();
                    return Err(gave_up(self.rank(), what, &missing, patience));
                }
            }
        }
        Ok(())
    }

    fn is_done(&self, what: &str, message: &mut Pending) -> Result<bool> {
        let (mut done, mut status) = (0, MaybeUninit::<ffi::MPI_Status>::zeroed());
        // SAFETY: the request is one that is still to be completed, and the status is written by the library where the request is done.
        let code = unsafe { ffi::MPI_Test(&raw mut message.request, &raw mut done, status.as_mut_ptr()) };
        self.check(code, what, message.rank)?;
        let Some(expected) = message.expected.filter(|_| done != 0) else { return Ok(done != 0) };
        let mut found = 0;
        // SAFETY: the library has written the status.
        let code = unsafe { ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &raw mut found) };
        self.check(code, what, message.rank)?;
        if found != expected {
            let (own, other) = (self.rank(), message.rank);
            let words = format!("rank {own}: expected {expected} bytes of {what} from rank {other}, found {found}");
            return Err(Error::Group(format!("{words}; all ranks have to be the same program with the same settings")));
        }
        Ok(true)
    }
}
