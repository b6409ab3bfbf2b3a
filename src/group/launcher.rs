//! Who started this process, and as one of how many: by what launchers leave in the environment of the processes they start.

use std::env;

/// A launcher that has started several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// mpirun or mpiexec, or srun with an MPI of its own (`--mpi=pmix`, `--mpi=pmi2`); the number of processes.
    Mpi(usize),
    /// torchrun; the number of processes.
    Torchrun(usize),
}

/// The launcher, unless this process is the only one.
pub fn launched() -> Option<Launch> {
    named(|name| env::var(name).ok())
}

/// How many of the launcher's processes are on this machine, where it says so.
pub fn launched_here() -> Option<usize> {
    let number = |name| env::var(name).ok()?.trim().parse().ok();
    number("OMPI_COMM_WORLD_LOCAL_SIZE").or_else(|| number("MPI_LOCALNRANKS")).or_else(|| number("LOCAL_WORLD_SIZE"))
}

fn named(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    // Slurm's number of tasks is that of a job; its processes are ranks where Slurm's MPI has numbered them.
    let by_slurm = || variable("PMIX_RANK").and_then(|_| number("SLURM_NTASKS"));
    let by_mpi = number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")).or_else(by_slurm);
    let by_torchrun = || variable("TORCHELASTIC_RUN_ID").and_then(|_| number("WORLD_SIZE"));
    by_mpi.map(Launch::Mpi).or_else(|| by_torchrun().map(Launch::Torchrun)).filter(|launch| launch.size() > 1)
}

impl Launch {
    /// Number of processes.
    pub fn size(self) -> usize {
        match self {
            Self::Mpi(size) | Self::Torchrun(size) => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Launch> {
        named(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "1")]), Some(Launch::Mpi(4)));
        assert_eq!(of(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]), Some(Launch::Mpi(2)));
        assert_eq!(of(&[("SLURM_NTASKS", "8"), ("PMIX_RANK", "3")]), Some(Launch::Mpi(8)));
        assert_eq!(of(&[("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "8"), ("RANK", "0")]), Some(Launch::Torchrun(8)));
    }

    #[test]
    fn a_process_by_itself_is_alone_whatever_a_job_or_a_notebook_leaves_behind() {
        for variables in [&[][..], &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")], &[("WORLD_SIZE", "8")], &[("PMI_SIZE", "1")]] {
            assert_eq!(of(variables), None, "{variables:?}");
        }
    }
}
