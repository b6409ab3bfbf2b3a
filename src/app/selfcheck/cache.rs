//! What a check found, kept in the folder of compiled kernels: one small file for each machine, program and format.

use super::failure::{Failure, FailureKind};
use super::machine;
use crate::device::cuda::kernel;
use crate::device::cuda::{CudaOptions, Probe};
use crate::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a failure is kept: somebody may have mended it in a way that shows in no version.
const FAILURE_LIFE: Duration = Duration::from_secs(60 * 60);

/// Everything that an outcome depends on, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity(String);

/// A file of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    identity: Identity,
    /// Seconds since 1970.
    written: u64,
    /// `None` of a check that passed.
    failure: Option<Failure>,
}

impl Identity {
    /// Of a device, its driver and libraries, this program, and what it is asked to compute.
    pub fn of(probe: &Probe, machine: &super::Machine, options: CudaOptions) -> Self {
        let devices: Vec<_> = probe.devices.iter().take(1).collect();
        let libraries: Vec<_> = probe.libraries.iter().filter_map(|found| found.path.as_deref().map(stamp)).collect();
        Self(format!("{}\n{devices:?}\n{:?}\n{}", Self::unseen(options).0, machine.0, libraries.join("\n")))
    }

    /// Of what can be told without touching the driver.
    pub fn unseen(options: CudaOptions) -> Self {
        let program = std::env::current_exe().map_or_else(|_| String::new(), |path| stamp(&path));
        let module = machine::kernel_module().unwrap_or_default();
        let variables = ["CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"];
        let environment: Vec<_> = variables.iter().map(|name| std::env::var_os(name).unwrap_or_default()).collect();
        Self(format!("{} {program}\n{module}\n{environment:?}\n{options:?}", env!("CARGO_PKG_VERSION")))
    }

    /// What was found, and how long ago; nothing if nobody has checked, or too long ago to say.
    pub fn recall(&self) -> Option<(Option<Failure>, Duration)> {
        let record: Record = serde_json::from_slice(&fs::read(self.path()?).ok()?).ok()?;
        let age = now().checked_sub(record.written).map(Duration::from_secs)?;
        let holds = record.identity == *self && (record.failure.is_none() || age < FAILURE_LIFE);
        holds.then_some((record.failure, age))
    }

    /// Keeps what was found. A cache that cannot be written costs time, nothing else.
    pub fn keep(&self, failure: Option<&Failure>) {
        if failure.is_some_and(|failure| failure.kind == FailureKind::Refused) {
            return self.forget();
        }
        let Some(path) = self.path() else { return };
        let record = Record { identity: self.clone(), written: now(), failure: failure.cloned() };
        let text = serde_json::to_vec(&record).expect("plain values");
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let _ = made.map(|()| write_atomically(&path, |writer| writer.write_all(&text)));
    }

    /// Nothing is known any more.
    pub fn forget(&self) {
        if let Some(path) = self.path() {
            // There is mostly nothing to remove.
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self) -> Option<PathBuf> {
        Some(kernel::cache_folder()?.join(format!("gpu-check-{:08x}.json", crc32c::crc32c(self.0.as_bytes()))))
    }
}

/// A file as far as it can be told from another version of it without reading it.
fn stamp(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let (bytes, written) = fs::metadata(&path).map_or((0, 0), |metadata| (metadata.len(), metadata.modified().map_or(0, seconds)));
    format!("{} {bytes} {written}", path.display())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
