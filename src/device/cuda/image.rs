//! Device code of this build: the fat binaries that `build.rs` made with nvcc, or, where it found none, the sources for NVRTC.
//!
//! Somebody waits for NVRTC. A source with kernels for rows of many lengths (`ONLY_LENGTH` in its text) is therefore compiled for one of
//! them at a time.
//!
//! What NVRTC compiles is kept in `$XBM_CACHE_DIR`, `$XDG_CACHE_HOME/xbm-fast` or `~/.cache/xbm-fast`, one file for each source,
//! length, architecture and version of NVRTC, with a checksum; a damaged file is compiled again. A cache that cannot be written costs
//! time, nothing else.

use crate::error::{Error, Result};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::nvrtc::{Ptx, result, sys};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Something the driver can load: a fat binary or a cubin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(pub Vec<u8>);

impl From<Image> for Ptx {
    fn from(image: Image) -> Self {
        Self::from_binary(image.0)
    }
}

/// The architectures that this build's kernels are compiled for; `None` if it has none.
pub fn compiled_for() -> Option<&'static str> {
    (!needs_compiler()).then_some(ARCHITECTURES)
}

/// CUDA version whose drivers load this build's kernels, such as 13000: that of the major version of the nvcc that compiled them. `None` if
/// it has none.
pub fn compiled_by() -> Option<i32> {
    (!needs_compiler()).then_some(TOOLKIT / 1000 * 1000)
}

/// Whether this build has no compiled kernels, so that NVRTC must compile them.
pub fn needs_compiler() -> bool {
    FAT_BINARIES.is_empty()
}

/// The kernels of `kernels/<stem>.cu` for the device of this context: of a part of them, or all.
///
/// # Errors
/// [`Error::Device`] if this build has no fat binaries and NVRTC is missing or refuses the source, with its words.
pub fn image(context: &Arc<CudaContext>, stem: &str, part: Part) -> Result<Image> {
    image_cached_in(cache_folder().as_deref(), context, stem, part)
}

/// [`image()`] with another folder for what NVRTC compiles, or none.
///
/// # Errors
/// As [`image()`].
pub fn image_cached_in(cache: Option<&Path>, context: &Arc<CudaContext>, stem: &str, part: Part) -> Result<Image> {
    if let Some((_, bytes)) = FAT_BINARIES.iter().find(|(name, _)| *name == stem) {
        return Ok(Image(bytes.to_vec()));
    }
    compile_cached(cache, stem, part, &architecture(context)?)
}

/// What is compiled of a source at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// All of it.
    Whole,
    /// The kernels for rows of up to this many numbers.
    Length(u32),
}

impl Part {
    /// That of a source that this kernel is in: by the length at the end of its name, such as `pair_loss_constant_f16_512_large`.
    ///
    /// # Errors
    /// As [`source()`].
    pub fn with(stem: &str, kernel: &str) -> Result<Self> {
        let length = kernel.trim_end_matches("_large").rsplit('_').next().and_then(|end| end.parse().ok());
        length.map_or(Ok(Self::Whole), |length| Self::of_length(stem, length))
    }

    /// That of a source with the kernels for rows of up to this many numbers; all of it where it is not divided.
    ///
    /// # Errors
    /// As [`source()`].
    pub fn of_length(stem: &str, length: u32) -> Result<Self> {
        let divided = needs_compiler() && source(stem)?.contains("ONLY_LENGTH");
        Ok(if divided { Self::Length(length) } else { Self::Whole })
    }

    /// For the name of a file.
    fn suffix(self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Length(length) => format!("-{length}"),
        }
    }
}

/// The text of `kernels/<stem>.cu`, its own headers written into it.
///
/// # Errors
/// [`Error::Config`] listing the stems there are.
pub fn source(stem: &str) -> Result<&'static str> {
    let found = SOURCES.iter().find(|(name, _)| *name == stem);
    found
        .map(|(_, text)| *text)
        .ok_or_else(|| Error::config(format!("no kernels are called `{stem}`; there are {}", stems().join(", "))))
}

/// The stems of all kernel sources: their paths in `kernels/` without the ending, such as `pair_loss/fused`.
pub fn stems() -> Vec<&'static str> {
    SOURCES.iter().map(|(stem, _)| *stem).collect()
}

/// The architecture that is compiled for the device of a context.
fn architecture(context: &CudaContext) -> Result<String> {
    let attribute = |which| context.attribute(which).map_err(super::device_error("asking for the compute capability"));
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(architecture_for(10 * major + minor, &known_architectures()))
}

/// What a compiler that knows these architectures (such as 80, 90, 100) makes for a device of this compute capability (such as 103): machine
/// code of the newest that is not newer than the device and of its major version, which the device runs (`sm_100`); failing that, PTX of the
/// newest that is not newer, for the driver to compile (`compute_90`); and machine code for the device itself where nothing is known. 9.0 is the
/// only one of its major version, and kernels use what it alone has (`sm_90a`).
pub fn architecture_for(capability: i32, known: &[i32]) -> String {
    let newest = known.iter().copied().filter(|&architecture| architecture <= capability).max();
    match newest {
        Some(90) if capability == 90 => "sm_90a".into(),
        Some(newest) if newest / 10 == capability / 10 => format!("sm_{newest}"),
        Some(newest) => format!("compute_{newest}"),
        None => format!("sm_{capability}"),
    }
}

/// Architectures that the run-time compiler knows; none where it is missing or does not say.
fn known_architectures() -> Vec<i32> {
    let mut count = 0;
    // SAFETY: the first call only tries to open the library; the count is written before it is read.
    let counted = unsafe { sys::is_culib_present() && sys::nvrtcGetNumSupportedArchs(&mut count).result().is_ok() };
    let mut known = vec![0; if counted { count.unsigned_abs() as usize } else { 0 }];
    // SAFETY: there is room for as many numbers as the library has said.
    let listed = !known.is_empty() && unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result().is_ok();
    if listed { known } else { Vec::new() }
}

fn compile_cached(cache: Option<&Path>, stem: &str, part: Part, architecture: &str) -> Result<Image> {
    let source = source(stem)?;
    // SAFETY: the call only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        let advice = "this build has no compiled kernels (nvcc was not found) and libnvrtc is not installed; install the CUDA \
                      toolkit or the nvidia-cuda-nvrtc wheel";
        return Err(Error::Device { what: format!("compiling {stem}.cu"), reason: advice.to_owned() });
    }
    let (major, minor) = version().map_err(|error| failure(stem, &error))?;
    let path = cache.map(|folder| {
        let key = crc32c::crc32c(source.as_bytes());
        let name = format!("{}{}", stem.replace('/', "-"), part.suffix());
        folder.join(format!("{name}-{key:08x}-{}-{architecture}-nvrtc{major}.{minor}.cubin", source.len()))
    });
    if let Some(image) = path.as_ref().and_then(|path| std::fs::read(path).ok()).and_then(checked) {
        return Ok(image);
    }
    let image = compile(stem, source, part, architecture)?;
    if let Some(path) = path {
        store(&path, &image);
    }
    Ok(image)
}

/// Major and minor version of NVRTC, where it is installed.
pub fn compiler_version() -> Option<(i32, i32)> {
    // SAFETY: the call only tries to open the library.
    if unsafe { sys::is_culib_present() } { version().ok() } else { None }
}

/// The library must be there.
fn version() -> std::result::Result<(i32, i32), result::NvrtcError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both results are written before they are read.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
    Ok((major, minor))
}

/// Compiles one self-contained source, or a part of it: for a real architecture (`sm_86`) into a cubin, for a virtual one (`compute_86`)
/// into PTX.
///
/// # Errors
/// [`Error::Device`] with the compiler's words.
pub fn compile(stem: &str, source: &str, part: Part, architecture: &str) -> Result<Image> {
    let text = CString::new(source).expect("sources have no NUL");
    let name = CString::new(format!("{stem}.cu")).expect("stems have no NUL");
    let program = result::create_program(&text, Some(&name)).map_err(|error| failure(stem, &error))?;
    let mut options =
        vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into(), "--device-as-default-execution-space".into()];
    if let Part::Length(length) = part {
        options.push(format!("--define-macro=ONLY_LENGTH={length}"));
    }
    // SAFETY: the program was created above and is destroyed once, below.
    let compiled = unsafe { result::compile_program(program, &options) };
    let image = match compiled {
        Ok(()) if architecture.starts_with("compute_") => ptx(program).map_err(|error| failure(stem, &error)),
        Ok(()) => cubin(program).map_err(|error| failure(stem, &error)),
        Err(error) => Err(Error::Device { what: format!("compiling {stem}.cu for {architecture}"), reason: log(program, &error) }),
    };
    // SAFETY: created above, not used afterwards.
    unsafe { result::destroy_program(program) }.map_err(|error| failure(stem, &error))?;
    image
}

fn cubin(program: sys::nvrtcProgram) -> std::result::Result<Image, result::NvrtcError> {
    let mut bytes = 0;
    // SAFETY: the program is compiled; the size is written before it is read.
    unsafe { sys::nvrtcGetCUBINSize(program, &mut bytes) }.result()?;
    let mut image = vec![0u8; bytes];
    // SAFETY: the buffer has the size that NVRTC asked for.
    unsafe { sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()) }.result()?;
    Ok(Image(image))
}

/// Text, with the NUL that ends it.
fn ptx(program: sys::nvrtcProgram) -> std::result::Result<Image, result::NvrtcError> {
    // SAFETY: the program is compiled.
    let text = unsafe { result::get_ptx(program) }?;
    Ok(Image(text.into_iter().map(|character| character as u8).collect()))
}

fn log(program: sys::nvrtcProgram, error: &result::NvrtcError) -> String {
    // SAFETY: the program exists.
    let text = unsafe { result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = text.iter().map(|&character| character as u8).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(|_| format!("{error:?}"), |words| words.to_string_lossy().into_owned())
}

fn failure(stem: &str, error: &result::NvrtcError) -> Error {
    Error::Device { what: format!("compiling {stem}.cu with NVRTC"), reason: format!("{error:?}") }
}

/// Where what is found out once is kept, unless there is no such place.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("XBM_CACHE_DIR")
        .or_else(|| folder("XDG_CACHE_HOME").map(|path| path.join("xbm-fast")))
        .or_else(|| folder("HOME").map(|path| path.join(".cache/xbm-fast")))
}

/// A cache file is a checksum, then the image.
fn checked(bytes: Vec<u8>) -> Option<Image> {
    let (checksum, image) = bytes.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*checksum) == crc32c::crc32c(image)).then(|| Image(image.to_vec()))
}

fn store(path: &Path, image: &Image) {
    let bytes = [&crc32c::crc32c(&image.0).to_le_bytes()[..], &image.0].concat();
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&temporary, bytes));
    if written.and_then(|()| std::fs::rename(&temporary, path)).is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}
