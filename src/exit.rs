//! Exit codes: one table for every command (README, "Exit codes").

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Finished, but something is damaged or was skipped.
    Partial = 3,
    /// There is no repository.
    NoRepository = 10,
    /// Something is there already, or belongs to another repository.
    Conflict = 11,
    /// No identity or writer key fits.
    NoKey = 12,
    /// The repository was written by a newer version.
    TooNew = 13,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The exit code with this number; what is none is a failure.
    pub fn from_code(code: u8) -> Self {
        const ALL: [Exit; 9] = [
            Exit::Done,
            Exit::Usage,
            Exit::Partial,
            Exit::NoRepository,
            Exit::Conflict,
            Exit::NoKey,
            Exit::TooNew,
            Exit::Interrupted,
            Exit::Failed,
        ];
        ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Failed)
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}
