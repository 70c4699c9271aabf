/// How this process was started as one of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// What started it: `mpirun`, `mpiexec` or `srun`.
    pub launcher: &'static str,
    /// Number of processes, at least 2.
    pub size: usize,
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of this process among those on its host, from 0: the GPU that it uses. `None` if the
    /// launcher does not say.
    pub local_rank: Option<usize>,
}

/// What a launcher sets for each process: its size, its rank, and its rank on its host under any of
/// some names.
struct Variables {
    launcher: &'static str,
    size: &'static str,
    rank: &'static str,
    local_rank: &'static [&'static str],
}

/// The one that started a process most directly comes first: `mpirun` in a job of Slurm starts its
/// daemons by `srun`, and their variables reach the processes too.
///
/// `SLURM_NTASKS` says how many tasks a job may start. An `sbatch` script has it, and its
/// `SLURM_PROCID` is 0, but the script is one process. `srun` alone sets `SLURM_STEP_NUM_TASKS`.
const LAUNCHERS: [Variables; 3] = [
    Variables {
        launcher: "mpirun",
        size: "OMPI_COMM_WORLD_SIZE",
        rank: "OMPI_COMM_WORLD_RANK",
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
    },
    Variables {
        launcher: "mpiexec",
        size: "PMI_SIZE",
        rank: "PMI_RANK",
        local_rank: &["MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID"],
    },
    Variables {
        launcher: "srun",
        size: "SLURM_STEP_NUM_TASKS",
        rank: "SLURM_PROCID",
        local_rank: &["SLURM_LOCALID"],
    },
];

impl Launch {
    /// How this process was started, from the environment variables that `lookup` gives. `None` if
    /// it is alone: started without a launcher, or as the only process of one.
    ///
    /// ```
    /// use dlt_processes::Launch;
    ///
    /// let environment = |name: &str| match name {
    ///     "OMPI_COMM_WORLD_SIZE" => Some("2".to_owned()),
    ///     "OMPI_COMM_WORLD_RANK" => Some("1".to_owned()),
    ///     _ => None,
    /// };
    /// let launch = Launch::found(environment).expect("one of two");
    /// assert_eq!((launch.launcher, launch.rank), ("mpirun", 1));
    /// assert_eq!(Launch::found(|_| None), None);
    /// ```
    #[must_use]
    pub fn found(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| lookup(name)?.trim().parse::<usize>().ok();

        for variables in &LAUNCHERS {
            let (Some(size), Some(rank)) = (number(variables.size), number(variables.rank)) else {
                continue;
            };

            let local_rank = variables.local_rank.iter().find_map(|name| number(name));
            let launch = Self { launcher: variables.launcher, size, rank, local_rank };
            return (size > 1 && rank < size).then_some(launch);
        }

        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launch> {
        Launch::found(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn launch(
        launcher: &'static str,
        size: usize,
        rank: usize,
        local_rank: Option<usize>,
    ) -> Option<Launch> {
        Some(Launch { launcher, size, rank, local_rank })
    }

    #[test]
    fn each_launcher_is_found_by_what_it_sets() {
        let open_mpi = [
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        assert_eq!(found(&open_mpi), launch("mpirun", 4, 3, Some(1)));
        assert_eq!(found(&open_mpi[..2]), launch("mpirun", 4, 3, None));

        let hydra = [("PMI_SIZE", "2"), ("PMI_RANK", "0"), ("MPI_LOCALRANKID", "0")];
        assert_eq!(found(&hydra), launch("mpiexec", 2, 0, Some(0)));

        let slurm = [
            ("SLURM_STEP_ID", "0"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_NTASKS", "8"),
            ("SLURM_PROCID", "7"),
            ("SLURM_LOCALID", "3"),
        ];
        assert_eq!(found(&slurm), launch("srun", 8, 7, Some(3)));
    }

    #[test]
    fn a_batch_script_is_one_process() {
        // What Slurm sets for the script of `sbatch --ntasks=4`.
        let script = [
            ("SLURM_JOB_ID", "17"),
            ("SLURM_NTASKS", "4"),
            ("SLURM_NPROCS", "4"),
            ("SLURM_PROCID", "0"),
            ("SLURM_LOCALID", "0"),
            ("ENVIRONMENT", "BATCH"),
        ];
        assert_eq!(found(&script), None);

        // `srun --ntasks=1` in it.
        let step = [&script[..], &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1")]].concat();
        assert_eq!(found(&step), None);
    }

    #[test]
    fn the_launcher_nearest_to_the_process_decides() {
        let daemon = [("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1"), ("SLURM_LOCALID", "0")];
        let several = [("OMPI_COMM_WORLD_SIZE", "16"), ("OMPI_COMM_WORLD_RANK", "9")];
        assert_eq!(found(&[&daemon[..], &several].concat()), launch("mpirun", 16, 9, None));

        let one = [("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")];
        assert_eq!(found(&[&daemon[..], &one].concat()), None);
    }

    #[test]
    fn rejects_numbers_that_cannot_be() {
        assert_eq!(found(&[]), None);
        for (size, rank) in [("two", "0"), ("2", "2"), ("0", "0"), ("-2", "0"), ("2", "")] {
            let wrong = [("OMPI_COMM_WORLD_SIZE", size), ("OMPI_COMM_WORLD_RANK", rank)];
            assert_eq!(found(&wrong), None, "{size} {rank}");
        }
    }
}
