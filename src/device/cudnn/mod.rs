//! Convolutions by cuDNN 9, through its graph ("backend") API.
//!
//! [`Convolution`] says what is computed, [`Cudnn::convolution`] puts it on the stream. The engine that runs it is chosen once, by the
//! library's heuristics within a [`Policy`], and kept: the cache of plans belongs to one handle, hence to one device and one version of
//! the library; every tensor is declared with one alignment, [`ALIGNMENT`]; what remains is the key, the [`Convolution`] itself. The
//! same convolution is therefore run by the same engine for as long as the process lives.
//!
//! [`Planner::described`] makes plans for a device that is not there, which is how all of a network's plans are checked without a GPU.

mod api;
mod descriptor;
mod graph;
mod plan;

pub use graph::{ALIGNMENT, Convolution, Direction, Fusion, Operands};
pub use plan::{Engine, ExecutionPlan, Policy};

use super::library::Workspace;
use crate::error::{Error, Result};
use api::api;
use cudarc::driver::CudaStream;
use descriptor::{Attribute, Building, Kind, Value};
use plan::Target;
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The version whose interface is used.
const MAJOR_VERSION: usize = 9;

/// The version of the loaded library, such as 92600 for 9.26.0.
///
/// # Errors
/// [`Error::Device`] if it cannot be loaded, is not cuDNN 9, or its parts are of several versions.
pub fn version() -> Result<usize> {
    let api = api()?;
    // SAFETY: takes nothing.
    let version = unsafe { (api.version)() };
    if version / 10_000 != MAJOR_VERSION {
        let reason =
            format!("version {version} was found, cuDNN 9 is needed; install the wheel nvidia-cudnn-cu13 or nvidia-cudnn-cu12");
        return Err(Error::Device { what: "loading cuDNN".into(), reason });
    }
    for check in [api.graph_version_check, api.ops_version_check, api.cnn_version_check] {
        // SAFETY: takes nothing.
        api.check(unsafe { check() }).map_err(|refusal| {
            let words = refusal.words();
            let advice = "its libraries are of several versions; leave one installation in LD_LIBRARY_PATH or the environment";
            Error::Device { what: "loading cuDNN".into(), reason: format!("{words}: {advice}") }
        })?;
    }
    Ok(version)
}

/// Plans convolutions for one device.
#[derive(Debug)]
pub struct Planner {
    target: Target,
    policy: Policy,
}

impl Planner {
    /// For a device that need not be there: `properties` is the JSON object of cuDNN's `DEVICEPROP` descriptor (`deviceVer`,
    /// `multiProcessorCount`, ...). Plans made with it cannot be executed.
    ///
    /// # Errors
    /// [`Error::Device`] if a property is missing.
    pub fn described(properties: &str, policy: Policy) -> Result<Self> {
        version()?;
        let device = Building::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?
            .set(Attribute::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, Value::Text(properties))?
            .finalize()?;
        Ok(Self { target: Target::Described(device), policy })
    }

    /// The first allowed engine that can run it.
    ///
    /// # Errors
    /// [`Error::Device`] with the library's reason if there is none.
    pub fn plan(&self, convolution: &Convolution) -> Result<ExecutionPlan> {
        ExecutionPlan::new(convolution, &self.target, &self.policy)
    }
}

/// cuDNN on one stream.
#[derive(Debug)]
pub struct Cudnn {
    handle: Handle,
    stream: Arc<CudaStream>,
    policy: Policy,
    plans: Mutex<HashMap<Convolution, ExecutionPlan>>,
    refused: Mutex<HashSet<Convolution>>,
}

/// The library's handle of a device.
#[derive(Debug)]
struct Handle(*mut c_void);

// SAFETY: cuDNN binds a handle to a device, not to a thread, and every use of it is under the lock of `Cudnn::plans`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(api) = api() {
            // SAFETY: created by this library and destroyed once.
            unsafe { (api.destroy)(self.0) };
        }
    }
}

impl Cudnn {
    /// Opens the library for a stream.
    ///
    /// # Errors
    /// [`Error::Device`] if the library is missing, too old, or mixed from several versions, with its words.
    pub fn new(stream: Arc<CudaStream>, policy: Policy) -> Result<Self> {
        version()?;
        bind(&stream)?;
        let api = api()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the result is written before it is used.
        api.check(unsafe { (api.create)(&mut raw) }).map_err(|refusal| refusal.during("creating a handle"))?;
        let handle = Handle(raw);
        // SAFETY: both are alive, and the stream outlives the handle, as `Self` holds it.
        let status = unsafe { (api.set_stream)(raw, stream.cu_stream().cast()) };
        api.check(status).map_err(|refusal| refusal.during("setting the stream"))?;
        Ok(Self { handle, stream, policy, plans: Mutex::default(), refused: Mutex::default() })
    }

    /// Bytes of workspace that this convolution needs. Plans it if that has not been done.
    ///
    /// # Errors
    /// [`Error::Device`] with the library's reason if no allowed engine can run it.
    pub fn workspace_bytes(&self, convolution: &Convolution) -> Result<usize> {
        self.with_plan(convolution, |plan| plan.workspace_bytes())
    }

    /// Whether an allowed engine can run it. Planned once, whatever the answer.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is lost.
    pub fn offers(&self, convolution: &Convolution) -> Result<bool> {
        bind(&self.stream)?;
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.contains(convolution) {
            return Ok(false);
        }
        if self.with_plan(convolution, |_| ()).is_err() {
            refused.insert(*convolution);
        }
        Ok(!refused.contains(convolution))
    }

    /// The engine that runs this convolution. Plans it if that has not been done.
    ///
    /// # Errors
    /// As [`Cudnn::workspace_bytes`].
    pub fn engine(&self, convolution: &Convolution) -> Result<Engine> {
        self.with_plan(convolution, |plan| plan.engine().clone())
    }

    /// How many different convolutions have been planned.
    pub fn planned(&self) -> usize {
        self.plans().len()
    }

    /// Puts a convolution on the stream.
    ///
    /// An engine may still refuse when it first runs; the next one whose workspace is there then takes its place. So run each convolution
    /// once before capturing it in a graph.
    ///
    /// # Errors
    /// [`Error::Shape`] if an address is not aligned or the workspace too small; [`Error::Device`] with the library's words.
    ///
    /// # Safety
    /// The addresses must be those of device memory as large as the convolution says, and the workspace of as many bytes as it says,
    /// until the stream has executed the work; other streams must not use them meanwhile.
    pub unsafe fn convolution(&self, convolution: &Convolution, operands: &Operands, workspace: Workspace) -> Result<()> {
        bind(&self.stream)?;
        let mut plans = self.plans();
        let mut plan = match plans.remove(convolution) {
            Some(plan) => plan,
            None => self.plan(convolution)?,
        };
        loop {
            // SAFETY: the caller's promise.
            let outcome = unsafe { plan.execute(self.handle.0, operands, workspace) };
            match outcome {
                Ok(Err(refusal)) if refusal.is_not_supported() => plan = plan.next(&self.target(), workspace.bytes)?,
                outcome => {
                    let engine = plan.engine().clone();
                    plans.insert(*convolution, plan);
                    return outcome?.map_err(|refusal| refusal.during(format!("running {convolution:?} on engine {engine}")));
                }
            }
        }
    }

    fn with_plan<T>(&self, convolution: &Convolution, read: impl FnOnce(&ExecutionPlan) -> T) -> Result<T> {
        bind(&self.stream)?;
        let mut plans = self.plans();
        if let Some(plan) = plans.get(convolution) {
            return Ok(read(plan));
        }
        let plan = self.plan(convolution)?;
        Ok(read(plans.entry(*convolution).or_insert(plan)))
    }

    fn plan(&self, convolution: &Convolution) -> Result<ExecutionPlan> {
        ExecutionPlan::new(convolution, &self.target(), &self.policy)
    }

    fn target(&self) -> Target {
        Target::Handle(self.handle.0)
    }

    fn plans(&self) -> MutexGuard<'_, HashMap<Convolution, ExecutionPlan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library works on the device of the calling thread's current context.
fn bind(stream: &CudaStream) -> Result<()> {
    let failed = |error| Error::Device { what: "cuDNN, making the context current".into(), reason: format!("{error:?}") };
    stream.context().bind_to_thread().map_err(failed)
}
