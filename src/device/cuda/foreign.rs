//! Memory and streams of another program's part on the same device, such as a tensor library this engine is embedded in.

use super::{Cuda, CudaBuffer, CudaIntegers, width};
use crate::device::cuda::kernel::{Format, device_error};
use crate::device::{Span, SpanMut};
use crate::error::{Error, Result};
use bytemuck::Pod;
use cudarc::driver::{result, sys};

/// `CU_STREAM_PER_THREAD`; `CU_STREAM_LEGACY` is 1.
const LARGEST_DEFAULT_STREAM: u64 = 2;

impl Cuda {
    fn ordinal(&self) -> usize {
        self.stream().context().ordinal()
    }

    /// Lets this backend's stream wait for what is on `stream` so far.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses the stream.
    ///
    /// # Safety
    /// `stream` is the handle of a living `CUstream` of this device's primary context.
    pub(crate) unsafe fn wait_for(&self, stream: u64) -> Result<()> {
        let event = self.stream().context().new_event(None).map_err(device_error("making an event"))?;
        // SAFETY: the caller's promise; the event is of the same context.
        unsafe { result::event::record(event.cu_event(), stream as sys::CUstream) }.map_err(device_error("following a stream"))?;
        self.stream().wait(&event).map_err(device_error("waiting for a stream"))
    }

    /// Lets `stream` wait for what is on this backend's so far.
    ///
    /// # Errors
    /// As [`Cuda::wait_for`].
    ///
    /// # Safety
    /// As [`Cuda::wait_for`].
    pub(crate) unsafe fn let_wait(&self, stream: u64) -> Result<()> {
        let event = self.stream().record_event(None).map_err(device_error("marking the end of a call"))?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the caller's promise; the driver keeps the event until nobody waits for it.
        unsafe { result::stream::wait_event(stream as sys::CUstream, event.cu_event(), flags) }
            .map_err(device_error("leading a stream"))
    }

    /// Fails unless a handle, not 0, is that of a stream of this device, as far as the driver can tell.
    ///
    /// # Errors
    /// [`Error::Config`].
    ///
    /// # Safety
    /// As [`Cuda::wait_for`], but for the context.
    pub(crate) unsafe fn expect_own_stream(&self, stream: u64) -> Result<()> {
        // The default streams, which every context has.
        if stream <= LARGEST_DEFAULT_STREAM {
            return Ok(());
        }
        self.bind()?;
        let mut context = std::ptr::null_mut();
        // SAFETY: the caller's promise; the result is written before it is read.
        let known = unsafe { sys::cuStreamGetCtx(stream as sys::CUstream, &mut context) };
        if known == sys::CUresult::CUDA_SUCCESS && context == self.stream().context().cu_ctx() {
            return Ok(());
        }
        Err(Error::config(format!("stream: expected one of the primary context of device {}, found another", self.ordinal())))
    }

    /// Waits until everything on the stream has happened.
    ///
    /// # Errors
    /// [`Error::Device`] with what failed on the way.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.stream().synchronize().map_err(device_error("waiting for the device"))
    }

    /// Fails unless an address is one of this device's memory, as far as the driver can tell.
    ///
    /// # Errors
    /// [`Error::Config`] naming `what`.
    pub(crate) fn expect_own_memory(&self, what: &str, address: u64) -> Result<()> {
        match self.device_of(address)? {
            Some(device) if device == self.ordinal() => Ok(()),
            Some(other) => {
                Err(Error::config(format!("{what}: expected memory of device {}, found some of {other}", self.ordinal())))
            }
            None => {
                Err(Error::config(format!("{what}: expected device memory, as its location says, found an address of the host")))
            }
        }
    }

    /// Which device an address belongs to, if to any.
    fn device_of(&self, address: u64) -> Result<Option<usize>> {
        use sys::CUpointer_attribute_enum::{CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
        self.bind()?;
        let mut kind = 0u32;
        // SAFETY: the driver looks the address up and follows nothing; the result is written before it is read.
        let known = unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) };
        if known != sys::CUresult::CUDA_SUCCESS || kind != sys::CUmemorytype_enum::CU_MEMORYTYPE_DEVICE as u32 {
            return Ok(None);
        }
        let mut ordinal = 0i32;
        // SAFETY: as above.
        unsafe { sys::cuPointerGetAttribute((&raw mut ordinal).cast(), CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) }
            .result()
            .map_err(device_error("asking whose memory an address is"))?;
        Ok(usize::try_from(ordinal).ok())
    }

    /// Copies 32-bit numbers from an address to a buffer, in the buffer's format.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    ///
    /// # Safety
    /// There are as many numbers as the span is long, and nobody writes them before the stream is waited for.
    pub(crate) unsafe fn copy_from(&self, from: u64, mut to: SpanMut<'_, CudaBuffer>) -> Result<()> {
        let (format, len) = (to.buffer.format(), to.len);
        let address = self.address_mut(&mut to);
        match format {
            Format::F32 => self.copy_bytes(from, address, len * width(format)),
            narrow => self.cast((from, Format::F32), (address, narrow), len),
        }
    }

    /// Copies integers from an address to the host and waits for them.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    ///
    /// # Safety
    /// There are as many as `to` is long.
    pub(crate) unsafe fn read_from<T: Pod>(&self, from: u64, to: &mut [T]) -> Result<()> {
        if to.is_empty() { Ok(()) } else { self.read(from, to) }
    }

    /// Copies a span of 32-bit numbers to an address.
    ///
    /// # Errors
    /// [`Error::Shape`] if the span is in another format; [`Error::Device`] if the driver refuses.
    ///
    /// # Safety
    /// There is room for them, and nobody else uses it before the stream is waited for.
    pub(crate) unsafe fn copy_to(&self, from: Span<'_, CudaBuffer>, to: u64) -> Result<()> {
        super::expect_full("numbers to hand out", from)?;
        self.copy_bytes(self.address(from), to, from.len * width(Format::F32))
    }

    /// Copies a span of integers to an address.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses.
    ///
    /// # Safety
    /// As [`Cuda::copy_to`].
    pub(crate) unsafe fn copy_integers_to(&self, from: Span<'_, CudaIntegers>, to: u64) -> Result<()> {
        self.copy_bytes(self.integers(from), to, from.len * size_of::<i32>())
    }
}
