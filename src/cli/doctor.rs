//! `xbm-fast doctor`: what this machine has for the GPU backend.

use crate::backend::cuda::libraries::{self, Library};
use crate::backend::cuda::{Probe, version_words};
use crate::backend::{Storage, cudnn};
use crate::error::Result;
use crate::kernel;
use crate::terminal;
use clap::Args;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Nothing to choose.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

impl DoctorArgs {
    /// Prints what was found. A machine without a GPU is not ill: the exit code is 0 either way.
    ///
    /// # Errors
    /// Standard output that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        terminal::print(&findings(&Probe::run())?).map(|()| ExitCode::SUCCESS)
    }
}

fn findings(probe: &Probe) -> Result<String> {
    let mut text = String::new();
    let _ = writeln!(text, "cpu       {}", crate::backend::Cpu::new(None)?.description());
    let _ = match &probe.driver {
        Ok(version) => writeln!(text, "driver    CUDA {}", version_words(*version)),
        Err(reason) => writeln!(text, "driver    none: {reason}"),
    };
    for (number, device) in probe.devices.iter().enumerate() {
        let (major, minor) = (device.capability / 10, device.capability % 10);
        let gigabytes = device.memory as f64 / f64::from(1 << 30);
        let _ = writeln!(text, "device {number}  {}, compute capability {major}.{minor}, {gigabytes:.1} GiB", device.name);
    }
    for found in &probe.libraries {
        let _ = match &found.path {
            Some(path) => writeln!(text, "{:<9} {}", found.library.name(), path.display()),
            None => writeln!(text, "{:<9} not found; {}", found.library.name(), found.library.advice()),
        };
    }
    if libraries::present(Library::Cudnn) {
        let _ = match cudnn::version() {
            Ok(version) => writeln!(text, "{:<9} version {}.{}.{}", "", version / 10_000, version / 100 % 100, version % 100),
            Err(reason) => writeln!(text, "{:<9} {reason}", ""),
        };
    }
    let _ = writeln!(text, "kernels   {}", kernels());
    let _ = match probe.verdict() {
        Ok(()) => writeln!(text, "verdict   the GPU will be used"),
        Err(reason) => writeln!(text, "verdict   the CPU will be used: {reason}"),
    };
    Ok(text)
}

fn kernels() -> String {
    let count = kernel::stems().len();
    match kernel::compiled_for() {
        Some(architectures) => format!("{count} files, compiled by nvcc for {architectures}"),
        None => format!("{count} files, compiled by NVRTC for the device at first use (this build found no nvcc)"),
    }
}
