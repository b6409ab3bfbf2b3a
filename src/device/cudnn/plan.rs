//! From an operation graph to an execution plan: which engines the library proposes, which of them may be used, and the first that works.

use super::api::{Refusal, api};
use super::descriptor::{Attribute, Building, Descriptor, Kind, Value};
use super::graph::{Convolution, Operands};
use crate::device::cuda::kernel::Format;
use crate::device::library::Workspace;
use crate::error::{Error, Result};
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendBehaviorNote_t as Behavior;
use cudarc::cudnn::sys::cudnnBackendHeurMode_t as Heuristic;
use cudarc::cudnn::sys::cudnnBackendNumericalNote_t as Numerical;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

/// Which engines may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Only engines that give the same bits every time.
    pub deterministic: bool,
    /// 32-bit operands may be rounded to TF32 for the tensor cores.
    pub tf32: bool,
    /// Plans that need more workspace, in bytes, are not used.
    pub workspace_limit: usize,
}

impl Default for Policy {
    /// Deterministic, no TF32, 256 MiB.
    fn default() -> Self {
        Self { deterministic: true, tf32: false, workspace_limit: 256 << 20 }
    }
}

/// One of the library's implementations of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its number within the library's version.
    pub index: i64,
    numerical: Vec<i32>,
    behavior: Vec<i32>,
}

impl Engine {
    fn notes(&self, note: Numerical) -> bool {
        self.numerical.contains(&(note as i32))
    }

    /// Whether it multiplies on the tensor cores.
    pub fn uses_tensor_cores(&self) -> bool {
        self.notes(Numerical::CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
    }

    /// Whether it gives the same bits every time.
    pub fn is_deterministic(&self) -> bool {
        !self.notes(Numerical::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
    }

    /// Whether it is compiled when its plan is built.
    pub fn is_compiled_at_run_time(&self) -> bool {
        self.behavior.contains(&(Behavior::CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION as i32))
    }

    /// Whether partial sums of 16-bit operands may be rounded to 16 bit.
    pub fn reduces_in_low_precision(&self) -> bool {
        self.notes(Numerical::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
    }

    fn allowed(&self, format: Format, policy: &Policy) -> bool {
        (self.is_deterministic() || !policy.deterministic)
            && !self.notes(Numerical::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
            && (format != Format::F32 || policy.tf32 || !self.uses_tensor_cores())
    }
}

impl fmt::Display for Engine {
    /// Its number and the library's notes on it, such as `62 tensor-core`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)?;
        let names = [
            (Numerical::CUDNN_NUMERICAL_NOTE_TENSOR_CORE, "tensor-core"),
            (Numerical::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, "reduced-precision-reduction"),
            (Numerical::CUDNN_NUMERICAL_NOTE_FFT, "fft"),
            (Numerical::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, "nondeterministic"),
            (Numerical::CUDNN_NUMERICAL_NOTE_WINOGRAD, "winograd"),
        ];
        for (note, name) in names {
            if self.notes(note) {
                write!(f, " {name}")?;
            }
        }
        if self.is_compiled_at_run_time() { write!(f, " compiled-at-run-time") } else { Ok(()) }
    }
}

/// For which device plans are made.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The device of a library handle.
    Handle(*mut c_void),
    /// One that need not be there.
    Described(Arc<Descriptor>),
}

impl Target {
    fn handle(&self) -> Option<*mut c_void> {
        match self {
            Self::Handle(handle) => Some(*handle),
            Self::Described(_) => None,
        }
    }

    /// Names the device, where a descriptor does not have it from the graph.
    fn name_in(&self, building: Building, described: Attribute, handle: Option<Attribute>) -> Result<Building> {
        match (self, handle) {
            (Self::Described(device), _) => building.set(described, Value::Descriptors(std::slice::from_ref(device))),
            (Self::Handle(raw), Some(attribute)) => building.set(attribute, Value::Handle(*raw)),
            (Self::Handle(_), None) => Ok(building),
        }
    }
}

/// An engine, prepared to run one convolution.
#[derive(Debug)]
pub struct ExecutionPlan {
    convolution: Convolution,
    engine: Engine,
    prepared: Arc<Descriptor>,
    workspace_bytes: usize,
    /// What else could be tried, best first.
    others: VecDeque<(Engine, Arc<Descriptor>)>,
}

impl ExecutionPlan {
    /// The first allowed engine whose plan the library accepts.
    pub(super) fn new(convolution: &Convolution, target: &Target, policy: &Policy) -> Result<Self> {
        let graph = convolution.graph(target.handle())?;
        let candidates = candidates(convolution, &graph, target, policy)?;
        Self::first_of(convolution, candidates, target, policy.workspace_limit)
    }

    /// The next plan after this one was refused when it ran, within the workspace there is.
    pub(super) fn next(self, target: &Target, workspace_limit: usize) -> Result<Self> {
        Self::first_of(&self.convolution, self.others, target, workspace_limit)
    }

    fn first_of(
        convolution: &Convolution,
        mut candidates: VecDeque<(Engine, Arc<Descriptor>)>,
        target: &Target,
        workspace_limit: usize,
    ) -> Result<Self> {
        let (mut tried, mut refusal) = (0, String::from("no engine is offered"));
        while let Some((engine, configuration)) = candidates.pop_front() {
            tried += 1;
            match prepare(configuration, target)? {
                Err(refused) => refusal = refused.words().to_owned(),
                Ok((prepared, bytes)) if bytes <= workspace_limit => {
                    return Ok(Self { convolution: *convolution, engine, prepared, workspace_bytes: bytes, others: candidates });
                }
                Ok((_, bytes)) => {
                    refusal = format!("engine {engine} needs {bytes} bytes of workspace, more than {workspace_limit}")
                }
            }
        }
        let reason = format!("none of {tried} engines can run {convolution:?}; the last reason: {refusal}");
        Err(Error::Device { what: "cuDNN, planning a convolution".into(), reason })
    }

    /// Which engine runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Bytes of workspace that every execution needs.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// Puts the convolution on the handle's stream.
    ///
    /// # Safety
    /// The addresses must be those of device memory as large as the convolution says, until the stream has executed it; so must the
    /// workspace.
    pub(super) unsafe fn execute(
        &self,
        handle: *mut c_void,
        operands: &Operands,
        workspace: Workspace,
    ) -> Result<std::result::Result<(), Refusal>> {
        workspace.check("convolution workspace", self.workspace_bytes, super::ALIGNMENT)?;
        let (names, addresses) = self.convolution.bind(operands)?;
        let pack = Building::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .set(Attribute::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, Value::Integers(&names))?
            .set(Attribute::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Value::Addresses(&addresses))?
            .set(Attribute::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Value::Addresses(&[workspace.address]))?
            .finalize()?;
        let api = api()?;
        // SAFETY: handle, plan and pack are alive; the caller vouches for the addresses in the pack.
        Ok(api.check(unsafe { (api.execute)(handle, self.prepared.raw(), pack.raw()) }))
    }
}

/// The allowed engines, in the library's order but those on the tensor cores first; after them those of its fallback list.
fn candidates(
    convolution: &Convolution,
    graph: &Arc<Descriptor>,
    target: &Target,
    policy: &Policy,
) -> Result<VecDeque<(Engine, Arc<Descriptor>)>> {
    let mut all = VecDeque::new();
    for mode in [Heuristic::CUDNN_HEUR_MODE_A, Heuristic::CUDNN_HEUR_MODE_FALLBACK] {
        let mut proposed = Vec::new();
        for configuration in configurations(graph, target, mode)? {
            let engine = engine_of(&configuration)?;
            if engine.allowed(convolution.format, policy) {
                proposed.push((engine, configuration));
            }
        }
        proposed.sort_by_key(|(engine, _)| !engine.uses_tensor_cores());
        all.extend(proposed);
    }
    Ok(all)
}

fn configurations(graph: &Arc<Descriptor>, target: &Target, mode: Heuristic) -> Result<Vec<Arc<Descriptor>>> {
    let building = Building::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .set(Attribute::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, Value::Descriptors(std::slice::from_ref(graph)))?
        .set(Attribute::CUDNN_ATTR_ENGINEHEUR_MODE, Value::HeuristicMode(mode))?;
    let building = target.name_in(building, Attribute::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, None)?;
    match building.try_finalize()? {
        Ok(heuristic) => heuristic.descriptors(Attribute::CUDNN_ATTR_ENGINEHEUR_RESULTS, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
        Err(refusal) if refusal.is_not_supported() => Ok(Vec::new()),
        Err(refusal) => Err(refusal.during(format!("asking for engines ({mode:?})"))),
    }
}

fn engine_of(configuration: &Arc<Descriptor>) -> Result<Engine> {
    let engines = configuration.descriptors(Attribute::CUDNN_ATTR_ENGINECFG_ENGINE, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
    let Some(engine) = engines.first() else {
        return Err(Error::Device { what: "cuDNN, reading an engine".into(), reason: "a configuration has none".into() });
    };
    Ok(Engine {
        index: engine.integer(Attribute::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?,
        numerical: engine.notes(Attribute::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE)?,
        behavior: engine.notes(Attribute::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, Type::CUDNN_TYPE_BEHAVIOR_NOTE)?,
    })
}

/// A plan and its workspace in bytes, or why the engine refuses.
fn prepare(configuration: Arc<Descriptor>, target: &Target) -> Result<std::result::Result<(Arc<Descriptor>, usize), Refusal>> {
    let building = Building::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
        .set(Attribute::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, Value::Descriptors(&[configuration]))?;
    let handle = Some(Attribute::CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    let building = target.name_in(building, Attribute::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, handle)?;
    let plan = match building.try_finalize()? {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let bytes = plan.integer(Attribute::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
    Ok(Ok((plan, usize::try_from(bytes).unwrap_or(0))))
}
