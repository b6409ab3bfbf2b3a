//! Descriptors of cuDNN's backend API: created, given attributes, finalized, and only then usable; the types keep to that order.
//!
//! A descriptor keeps those alive that were set as its attributes, or that it was read from.

use super::api::{Refusal, api};
use crate::device::cuda::kernel::Format;
use crate::error::Result;
use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

pub(super) use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Attribute;
pub(super) use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

/// Element type of a tensor, or of a computation.
pub(super) fn data_type(format: Format) -> i32 {
    let data_type = match format {
        Format::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Format::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
        Format::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    };
    data_type as i32
}

/// What an attribute is set to.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Integers(&'a [i64]),
    Float(f32),
    Flag(bool),
    Text(&'a str),
    Format(Format),
    ConvolutionMode(sys::cudnnConvolutionMode_t),
    PointwiseMode(sys::cudnnPointwiseMode_t),
    HeuristicMode(sys::cudnnBackendHeurMode_t),
    Descriptors(&'a [Arc<Descriptor>]),
    Handle(*mut c_void),
    Addresses(&'a [u64]),
}

/// A descriptor that is still given attributes.
#[derive(Debug)]
pub(super) struct Building(Descriptor);

/// A finalized descriptor.
#[derive(Debug)]
pub(super) struct Descriptor {
    raw: *mut c_void,
    kind: Kind,
    parts: Vec<Arc<Descriptor>>,
}

// SAFETY: after being finalized a descriptor is only read, and calls that execute a plan are made under the lock of its `Cudnn`; the
// library binds descriptors to no thread.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Ok(api) = api() {
            // SAFETY: created by this library and destroyed once; descriptors that refer to it are gone, as they hold an `Arc` of it.
            unsafe { (api.destroy_descriptor)(self.raw) };
        }
    }
}

impl Building {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let api = api()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the result is written before it is used.
        let status = unsafe { (api.create_descriptor)(kind as i32, &mut raw) };
        api.check(status).map_err(|refusal| refusal.during(format!("creating {kind:?}")))?;
        Ok(Self(Descriptor { raw, kind, parts: Vec::new() }))
    }

    pub(super) fn set(mut self, attribute: Attribute, value: Value<'_>) -> Result<Self> {
        let status = match value {
            Value::Integers(values) => self.put(attribute, Type::CUDNN_TYPE_INT64, values)?,
            Value::Float(value) => self.put(attribute, Type::CUDNN_TYPE_FLOAT, &[value])?,
            Value::Flag(value) => self.put(attribute, Type::CUDNN_TYPE_BOOLEAN, &[value])?,
            Value::Text(text) => self.put(attribute, Type::CUDNN_TYPE_CHAR, text.as_bytes())?,
            Value::Format(format) => self.put(attribute, Type::CUDNN_TYPE_DATA_TYPE, &[data_type(format)])?,
            Value::ConvolutionMode(mode) => self.put(attribute, Type::CUDNN_TYPE_CONVOLUTION_MODE, &[mode as i32])?,
            Value::PointwiseMode(mode) => self.put(attribute, Type::CUDNN_TYPE_POINTWISE_MODE, &[mode as i32])?,
            Value::HeuristicMode(mode) => self.put(attribute, Type::CUDNN_TYPE_HEUR_MODE, &[mode as i32])?,
            Value::Handle(handle) => self.put(attribute, Type::CUDNN_TYPE_HANDLE, &[handle])?,
            Value::Addresses(addresses) => self.put(attribute, Type::CUDNN_TYPE_VOID_PTR, addresses)?,
            Value::Descriptors(descriptors) => {
                let raw: Vec<*mut c_void> = descriptors.iter().map(|descriptor| descriptor.raw).collect();
                self.0.parts.extend(descriptors.iter().cloned());
                self.put(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw)?
            }
        };
        let kind = self.0.kind;
        api()?.check(status).map_err(|refusal| refusal.during(format!("setting {attribute:?} of {kind:?}")))?;
        Ok(self)
    }

    fn put<T: Copy>(&self, attribute: Attribute, kind: Type, values: &[T]) -> Result<i32> {
        let count = i64::try_from(values.len()).expect("attributes are short");
        // SAFETY: the descriptor is alive; the library reads `count` elements of the given type, which `set` pairs with `T`.
        Ok(unsafe { (api()?.set_attribute)(self.0.raw, attribute as i32, kind as i32, count, values.as_ptr().cast()) })
    }

    pub(super) fn finalize(self) -> Result<Arc<Descriptor>> {
        let kind = self.0.kind;
        self.try_finalize()?.map_err(|refusal| refusal.during(format!("finalizing {kind:?}")))
    }

    /// As [`Building::finalize`], with a refusal as a value.
    pub(super) fn try_finalize(self) -> Result<std::result::Result<Arc<Descriptor>, Refusal>> {
        let api = api()?;
        // SAFETY: the descriptor is alive.
        let status = unsafe { (api.finalize)(self.0.raw) };
        Ok(api.check(status).map(|()| Arc::new(self.0)))
    }
}

impl Descriptor {
    pub(super) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// An attribute that is one integer.
    pub(super) fn integer(&self, attribute: Attribute) -> Result<i64> {
        let mut value = [0i64];
        self.read(attribute, Type::CUDNN_TYPE_INT64, &mut value)?;
        Ok(value[0])
    }

    /// An attribute that is a list of notes, as their numbers.
    pub(super) fn notes(&self, attribute: Attribute, kind: Type) -> Result<Vec<i32>> {
        let mut notes = vec![0i32; self.read::<i32>(attribute, kind, &mut [])?];
        let count = self.read(attribute, kind, &mut notes)?;
        notes.truncate(count);
        Ok(notes)
    }

    /// An attribute that is a list of descriptors.
    pub(super) fn descriptors(self: &Arc<Self>, attribute: Attribute, kind: Kind) -> Result<Vec<Arc<Self>>> {
        let count = self.read::<*mut c_void>(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &mut [])?;
        // The library writes into descriptors that the caller has created, and finalizes them.
        let mut created = (0..count).map(|_| Building::new(kind)).collect::<Result<Vec<_>>>()?;
        let mut raw: Vec<*mut c_void> = created.iter().map(|descriptor| descriptor.0.raw).collect();
        created.truncate(self.read(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &mut raw)?);
        let keep_source = |Building(mut descriptor)| {
            descriptor.parts.push(self.clone());
            Arc::new(descriptor)
        };
        Ok(created.into_iter().map(keep_source).collect())
    }

    /// Reads at most as many elements as there is room for; returns how many there are. With no room, only counts.
    fn read<T: Copy>(&self, attribute: Attribute, kind: Type, values: &mut [T]) -> Result<usize> {
        let api = api()?;
        let room = i64::try_from(values.len()).expect("attributes are short");
        let start = if values.is_empty() { ptr::null_mut() } else { values.as_mut_ptr().cast() };
        let mut count = 0;
        // SAFETY: the descriptor is alive; the library writes at most `room` elements of the given type, which callers pair with `T`.
        let status = unsafe { (api.get_attribute)(self.raw, attribute as i32, kind as i32, room, &mut count, start) };
        api.check(status).map_err(|refusal| refusal.during(format!("reading {attribute:?} of {:?}", self.kind)))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}
