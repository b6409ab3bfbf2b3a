//! Where a run computes.

use crate::device::cuda::{PairLossPath, Precision};
use crate::settings::Range::AtLeast;
use crate::settings::{choice, settings};

choice! {
    /// Where tensors live.
    pub enum DeviceChoice {
        /// The best there is.
        Auto = "auto",
        /// The host processor.
        Cpu = "cpu",
        /// The first NVIDIA GPU.
        Cuda = "cuda",
    }
}

settings! {
    /// Where a run computes.
    pub struct MachineSettings in "Machine" {
        /// The device; auto takes a GPU that computes what the CPU does.
        "device" => device: DeviceChoice = DeviceChoice::Auto, unit("KIND");
        /// On a GPU: what activations are held and multiplied in; the CPU computes in 32 bit.
        "precision" => precision: Precision = Precision::Fp16, unit("FORMAT");
        /// On a GPU: the pair loss as one kernel (fused) or as matrix products (unfused).
        "pair_loss" => pair_loss: PairLossPath = PairLossPath::Auto, unit("PATH");
        /// Worker threads; 0 is one per core. Changes no result.
        "threads" => threads: usize = 0, unit("THREADS");
        /// On several processes: how long one waits for another before the run ends with an error. Longer than what one does by itself, such
        /// as writing a checkpoint.
        "group_timeout" => group_timeout: u64 = 60, unit("SECONDS"), within(AtLeast(1.0));
    }
}
