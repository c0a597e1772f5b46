//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// The place that gave a setting its value; later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Larder's own default, or derived from other settings.
    Default,
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// The name of the variable.
        name: String,
    },
    /// An override by the program, such as a command line flag.
    Flag,
}

impl Origin {
    /// Returns the precedence: a higher one wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Env { .. } => 2,
            Self::Flag => 3,
        }
    }

    pub(super) fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Default | Self::Env { .. } | Self::Flag => 0,
        }
    }
}

/// Writes `default`, `larder.toml:12`, `env CACHE_DRIVER` or `flag`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env { name } => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}
