//! A machine that executes the PTX that nvcc makes of a kernel: what is proved with it is the compiler's output, not a host
//! compiler's idea of the same source.
//!
//! [`Library::parse`] reads a file and decodes every kernel in it, so that an instruction the machine does not know is found at
//! once; [`run`] executes one.

mod allocate;
mod class;
mod constants;
mod declarations;
mod decode;
mod flow;
pub mod hook;
mod hopper;
mod machine;
mod module;
mod ops;
mod program;
mod registers;
pub mod report;
mod tokens;
mod uses;

pub use machine::counts::Counts;
pub use machine::memory::Region;
pub use machine::tensor_map::TensorMap;
pub use machine::{Launch, run};
pub use program::{Class, Program};

/// The kernels of a file.
pub struct Library {
    pub kernels: Vec<Program>,
}

impl Library {
    /// Reads PTX.
    ///
    /// # Errors
    /// The line, and what is not understood there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let module = declarations::module(text)?;
        let kernels = module.bodies.iter().filter(|body| body.is_kernel).map(|body| decode::program(&module, body.name));
        Ok(Self { kernels: kernels.collect::<Result<_, _>>()? })
    }

    /// The kernel of a name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<&Program> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }
}
