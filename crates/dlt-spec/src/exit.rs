//! Exit codes of the program. Scripts may rely on these numbers.

/// How a process ended.
///
/// ```
/// use dlt_spec::ExitCode;
/// assert_eq!(ExitCode::BadSpec.number(), 3);
/// assert_eq!(ExitCode::from_number(130), Some(ExitCode::Interrupted));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// 0: the command succeeded.
    Ok = 0,
    /// 2: the command line is wrong.
    Usage = 2,
    /// 3: a spec holds an unknown key, a wrong type or a value that cannot be used.
    BadSpec = 3,
    /// 4: data is missing, empty, damaged, not UTF-8, or too short for the request.
    BadData = 4,
    /// 5: the device, memory, disk or another resource is missing or too small; or another process
    /// holds the run folder; or the folder was renamed, removed or replaced during training.
    Resources = 5,
    /// 6: training diverged: a loss or gradient is not a finite number.
    Diverged = 6,
    /// 130: interrupted by the user (128 + SIGINT).
    Interrupted = 130,
}

impl ExitCode {
    /// Every code, in rising order.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Usage,
        Self::BadSpec,
        Self::BadData,
        Self::Resources,
        Self::Diverged,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Its meaning, for a table in the help text.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "success",
            Self::Usage => "wrong command line",
            Self::BadSpec => "bad spec",
            Self::BadData => "bad data",
            Self::Resources => {
                "not enough resources, no such device, or a run folder that is held or was moved"
            }
            Self::Diverged => "training diverged",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}
