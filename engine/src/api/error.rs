//! What can go wrong, as one type.

use crate::model::ModelError;
use crate::program::BuildError;
use crate::service::identity::IdentityError;
use crate::service::{Fault, ServiceError};
use std::fmt;
use std::time::Duration;

/// Why something failed: one line that says what and where, and whose fault it is.
pub struct Error(ServiceError);

/// A result with the crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Of what the caller gave.
    pub(super) fn input(what: impl Into<String>) -> Self {
        Self(ServiceError::Request(what.into()))
    }

    /// Whose fault it is, or where it comes from.
    pub fn fault(&self) -> Fault {
        self.0.fault()
    }

    /// If the server has no room: when it may have some.
    pub fn retry_after(&self) -> Option<Duration> {
        if let ServiceError::Busy(after) = self.0 { Some(after) } else { None }
    }

    /// Whether the request was cancelled ([`crate::Cancellation`]).
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, ServiceError::Cancelled)
    }

    /// Whether another server, or the same one later, may do what this one did not.
    pub fn is_transient(&self) -> bool {
        matches!(self.0, ServiceError::Refused(_)) || matches!(self.fault(), Fault::Network | Fault::Busy)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Error {
    /// As it is shown where `main` returns it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.fault().name())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)
    }
}

macro_rules! from {
    ($($inner:ty),*) => {
        $(impl From<$inner> for Error {
            fn from(e: $inner) -> Self {
                Self(e.into())
            }
        })*
    };
}
from!(ServiceError, ModelError, BuildError, IdentityError);
