use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{ProcessesError, Result};

/// The same program as several processes on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relaunch {
    /// The program, as `std::env::current_exe` gives it.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub arguments: Vec<OsString>,
    /// Number of processes.
    pub processes: usize,
}

impl Relaunch {
    /// Arguments of Open MPI's `mpirun` that start the processes. `option` is the one that asked
    /// for them, such as `--processes`. It is left out with its value, so no process asks again.
    ///
    /// Processes may outnumber the cores: `--oversubscribe` has no other effect, and `mpirun`
    /// counts neither hardware threads nor the limits of a container as this program does. Each may
    /// use every core: without `--bind-to none`, `mpirun -n 2` gives a process one core for all of
    /// its threads. `--quiet` leaves out what `mpirun` says if a process ends with an error, which
    /// the processes say themselves.
    ///
    /// ```
    /// use dlt_processes::Relaunch;
    ///
    /// let arguments = ["train", "--processes", "2", "--preset", "smoke"].map(Into::into).into();
    /// let relaunch = Relaunch { program: "/usr/bin/dlt".into(), arguments, processes: 2 };
    ///
    /// let line = relaunch.arguments_of_mpirun("--processes").join(" ".as_ref());
    /// let options = "-n 2 --quiet --oversubscribe --bind-to none";
    /// assert_eq!(line, *format!("{options} /usr/bin/dlt train --preset smoke"));
    /// ```
    #[must_use]
    pub fn arguments_of_mpirun(&self, option: &str) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["-n".into(), self.processes.to_string().into()];
        line.extend(["--quiet", "--oversubscribe", "--bind-to", "none"].map(OsString::from));
        line.push(self.program.clone().into());
        line.extend(without(option, &self.arguments));
        line
    }
}

/// Arguments without an option and its value: `--processes 2` or `--processes=2`. What follows a
/// `--` is no option.
fn without(option: &str, arguments: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(arguments.len());
    let mut rest = arguments.iter();

    while let Some(argument) = rest.next() {
        if argument == "--" {
            kept.push(argument.clone());
            kept.extend(rest.cloned());
            break;
        }

        if argument == option {
            rest.next();
        } else if !has_value_of(option, argument) {
            kept.push(argument.clone());
        }
    }

    kept
}

/// Whether an argument is `OPTION=VALUE`.
fn has_value_of(option: &str, argument: &OsStr) -> bool {
    let bytes = argument.as_encoded_bytes();
    bytes.strip_prefix(option.as_bytes()).is_some_and(|value| value.starts_with(b"="))
}

/// Where `mpirun` is, for a process with the environment that `lookup` gives: the first in the
/// folders of `PATH`.
///
/// `mpirun` itself refuses root, unless two environment variables say that root is meant. It reads
/// them by itself, so no argument repeats them, and none overrules the refusal.
///
/// # Errors
/// [`ProcessesError::NoMpirun`] if no folder has it, [`ProcessesError::Root`] if it would refuse.
pub fn mpirun(lookup: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let user = std::fs::metadata("/proc/self").map_or(User::Other, |own| match own.uid() {
        0 => User::Root,
        _ => User::Other,
    });
    mpirun_of(user, lookup)
}

/// Whose process this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Root,
    Other,
}

fn mpirun_of(user: User, lookup: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folders = lookup("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("mpirun"))
        .find(|path| can_run(path))
        .ok_or(ProcessesError::NoMpirun)?;

    let is_one = |name: &str| lookup(name).is_some_and(|value| value == "1");
    let confirmed = is_one("OMPI_ALLOW_RUN_AS_ROOT") && is_one("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM");
    if user == User::Root && !confirmed {
        return Err(ProcessesError::Root);
    }

    Ok(found)
}

fn can_run(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kept(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let kept = without("--processes", &arguments);
        kept.into_iter().map(|argument| argument.into_string().expect("text")).collect()
    }

    #[test]
    fn the_option_is_left_out_in_each_way_to_write_it() {
        let rest = ["train", "--seed", "3"];
        assert_eq!(kept(&["train", "--processes", "4", "--seed", "3"]), rest);
        assert_eq!(kept(&["train", "--processes=4", "--seed", "3"]), rest);
        assert_eq!(kept(&["train", "--seed", "3", "--processes", "4"]), rest);
        assert_eq!(kept(&["train", "--seed", "3", "--processes"]), rest);
    }

    #[test]
    fn other_arguments_stay_as_they_are() {
        let similar = ["--processes-of", "x", "processes", "--process=2"];
        assert_eq!(kept(&similar), similar);
        let after = ["run", "--", "--processes", "2"];
        assert_eq!(kept(&after), after);
        assert_eq!(kept(&[]), [""; 0]);
    }

    #[test]
    fn arguments_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;

        let name = OsString::from_vec(vec![b'a', 0xff]);
        let arguments = vec![OsString::from("--processes=2"), name.clone()];
        let relaunch = Relaunch { program: "/bin/dlt".into(), arguments, processes: 2 };
        assert_eq!(relaunch.arguments_of_mpirun("--processes").last(), Some(&name));
    }

    #[test]
    fn mpirun_is_the_first_program_of_that_name_in_path() {
        let folder = tempfile::tempdir().expect("folder");
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        for place in [&first, &second] {
            fs::create_dir(place).expect("created");
            fs::write(place.join("mpirun"), "").expect("written");
        }

        let path = std::env::join_paths([&first, &second]).expect("joined");
        let found = |user, confirmed: bool| {
            mpirun_of(user, |name| match name {
                "PATH" => Some(path.clone()),
                _ => confirmed.then(|| "1".into()),
            })
        };

        // A file that is no program does not count.
        assert_eq!(found(User::Other, false), Err(ProcessesError::NoMpirun));
        let mode = |place: &Path, mode| {
            fs::set_permissions(place.join("mpirun"), fs::Permissions::from_mode(mode))
        };
        mode(&second, 0o755).expect("set");
        assert_eq!(found(User::Other, false), Ok(second.join("mpirun")));
        mode(&first, 0o755).expect("set");
        assert_eq!(found(User::Other, false), Ok(first.join("mpirun")));

        assert_eq!(found(User::Root, false), Err(ProcessesError::Root));
        assert_eq!(found(User::Root, true), Ok(first.join("mpirun")));
    }

    #[test]
    fn messages_say_what_to_do() {
        assert!(ProcessesError::NoMpirun.to_string().contains("apt-get install openmpi-bin"));
        assert!(ProcessesError::Root.to_string().contains("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"));
    }
}
