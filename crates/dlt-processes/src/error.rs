/// What this crate returns.
pub type Result<T> = std::result::Result<T, ProcessesError>;

/// Why processes could not be started, or could not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessesError {
    /// No `mpirun` in the folders of `PATH`.
    #[error(
        "mpirun was not found in PATH: install Open MPI (Debian, Ubuntu: apt-get install \
         openmpi-bin; a cluster: module load openmpi), or start the processes by srun"
    )]
    NoMpirun,

    /// `mpirun` refuses to start processes of root.
    #[error(
        "mpirun does not start processes of the user root: use another user. If root is meant, as \
         in a container, set OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
    )]
    Root,

    /// MPI could not be started in this process.
    #[error("MPI did not start: {reason}")]
    NotStarted {
        /// What was found, and what to do.
        reason: String,
    },

    /// The launcher started several processes that do not see each other.
    #[error(
        "{launcher} started {launched} processes, but {engine} finds {found}: the launcher and \
         this program use different MPI libraries. Start the program by the mpirun of {engine}, \
         or by srun --mpi=pmix"
    )]
    Apart {
        /// Name of the launcher.
        launcher: &'static str,
        /// Processes that it started.
        launched: usize,
        /// Name and version of the MPI library.
        engine: String,
        /// Processes that the library finds.
        found: usize,
    },

    /// Another process has not come in time.
    #[error(
        "the processes did not meet within {seconds} s: check that all hosts run, and that they \
         reach each other by the network that MPI uses"
    )]
    NotMet {
        /// How long this process waited.
        seconds: u64,
    },
}
