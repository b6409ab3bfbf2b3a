//! Finds the CUDA libraries that are loaded at run time, and says where.
//!
//! Each is looked for by name as the system finds it, then below `CUDA_HOME`, `CUDA_PATH` and `/usr/local/cuda`, then in the `nvidia`
//! wheels of an active `VIRTUAL_ENV` or `CONDA_PREFIX`. What is found in a folder is loaded by its absolute path with everything that
//! belongs to it: cuDNN consists of ten libraries that look for each other by name, and a mixture of two versions refuses to work.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A library that the GPU backend loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Convolutions.
    Cudnn,
    /// Matrix products.
    CublasLt,
    /// Compiles kernels, where the build had no nvcc.
    Nvrtc,
}

/// Where a library was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub library: Library,
    /// The file, as the loader reports it; `None` if the library is missing.
    pub path: Option<PathBuf>,
}

impl Library {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cudnn, Self::CublasLt, Self::Nvrtc];

    /// As users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cudnn => "cuDNN",
            Self::CublasLt => "cuBLASLt",
            Self::Nvrtc => "NVRTC",
        }
    }

    /// What to install when it is missing.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Cudnn => "install cuDNN 9: `pip install nvidia-cudnn-cu13` in the active environment, or the system's package",
            Self::CublasLt => "install the CUDA 13 libraries: `pip install nvidia-cublas`, or the system's CUDA toolkit",
            Self::Nvrtc => "install the run-time compiler: `pip install nvidia-cuda-nvrtc`, or the system's CUDA toolkit",
        }
    }

    /// Names under which the dynamic linker may know it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Cudnn => &["libcudnn.so.9"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
        }
    }

    /// Folders of wheels, below `site-packages/nvidia`.
    fn wheels(self) -> &'static [&'static str] {
        match self {
            Self::Cudnn => &["cudnn/lib"],
            Self::CublasLt => &["cu13/lib", "cublas/lib"],
            Self::Nvrtc => &["cu13/lib", "cuda_nvrtc/lib"],
        }
    }

    /// How the names of the files begin that belong to it, in a folder of its own.
    fn family(self) -> &'static str {
        match self {
            Self::Cudnn => "libcudnn_",
            Self::CublasLt => "libcublasLt_",
            Self::Nvrtc => "libnvrtc-builtins",
        }
    }
}

/// Loads what can be found, once per process.
pub fn libraries() -> &'static [Found] {
    static FOUND: OnceLock<Vec<Found>> = OnceLock::new();
    FOUND.get_or_init(|| Library::ALL.into_iter().map(find).collect())
}

/// Whether a library was found.
pub fn present(library: Library) -> bool {
    libraries().iter().any(|found| found.library == library && found.path.is_some())
}

fn find(library: Library) -> Found {
    let loaded = library.names().iter().find(|name| open(Path::new(name)));
    if let Some(name) = loaded {
        return Found { library, path: Some(mapped_path(name).unwrap_or_else(|| PathBuf::from(name))) };
    }
    let folders = toolkit_folders().into_iter().chain(wheel_folders(library));
    Found { library, path: folders.into_iter().find_map(|folder| open_family(library, &folder)) }
}

fn toolkit_folders() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    homes.chain([PathBuf::from("/usr/local/cuda")]).flat_map(|home| [home.join("lib64"), home.join("lib")]).collect()
}

fn wheel_folders(library: Library) -> Vec<PathBuf> {
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let pythons = environments.flat_map(|environment| std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten());
    let nvidia: Vec<PathBuf> = pythons.map(|python| python.path().join("site-packages/nvidia")).collect();
    nvidia.iter().flat_map(|nvidia| library.wheels().iter().map(|folder| nvidia.join(folder))).collect()
}

/// Loads a library and its family from one folder; returns the library's file.
fn open_family(library: Library, folder: &Path) -> Option<PathBuf> {
    let path = library.names().iter().map(|name| folder.join(name)).find(|path| path.exists())?;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut family: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| belongs(library, path)).collect();
    family.sort();
    // They need one another in an order that differs between versions: what fails at first is tried again after the others.
    for _ in 0..family.len().min(4) {
        family.retain(|member| !open(member));
    }
    open(&path).then_some(path)
}

fn belongs(library: Library, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(library.family()) && name.contains(".so.")
}

/// Loads a library for the rest of the process, visible to those that ask for its name later.
fn open(path: &Path) -> bool {
    // SAFETY: NVIDIA's libraries may be loaded by any program; their initialisers touch nothing of ours.
    unsafe { load(path) }.map(std::mem::forget).is_ok()
}

#[cfg(unix)]
unsafe fn load(path: &Path) -> Result<libloading::os::unix::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
    // SAFETY: the caller vouches for the library.
    unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) }
}

#[cfg(not(unix))]
unsafe fn load(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller vouches for the library.
    unsafe { libloading::Library::new(path) }
}

/// The file behind a loaded library, from the list of this process's mappings.
fn mapped_path(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let stem = name.split(".so").next()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let mut matching =
        paths.filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{stem}.so"))));
    matching.next().map(Path::to_path_buf)
}
