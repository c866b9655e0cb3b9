//! What ends a command, and the exit status that says so.

use sirnn::fixed::Unsupported;
use sirnn::model::ModelError;
use sirnn::plan::speeds::SpeedsError;
use sirnn::program::BuildError;
use sirnn::run::RunError;
use sirnn::run::store::StoreError;
use sirnn::service::identity::IdentityError;
use sirnn::service::{Fault, ServiceError};
use sirnn_backends::Error;
use std::fmt;
use std::time::Duration;

/// One line for the user, and whose fault it is. As an exit status: 1 internal, 2 usage (by the parser of the command
/// line), 3 input, 4 peer, 5 network, 6 limit, 7 busy.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    text: String,
    /// When it may be better, if it may.
    pub(super) retry: Option<Duration>,
}

impl Failure {
    pub(super) fn new(fault: Fault, text: impl Into<String>) -> Self {
        Self { fault, text: text.into(), retry: None }
    }

    pub(super) fn internal(e: impl fmt::Display) -> Self {
        Self::new(Fault::Internal, format!("internal error: {e}"))
    }

    /// The same, with what it is about before it.
    pub(super) fn about(self, what: impl fmt::Display) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a user gave, unless it is said otherwise.
impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(Fault::Input, text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(Fault::Input, text)
    }
}

impl From<ServiceError> for Failure {
    fn from(e: ServiceError) -> Self {
        let retry = match &e {
            ServiceError::Busy(after) => Some(*after),
            ServiceError::Network(Error::Io(_) | Error::Closed(_)) => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self { retry, ..Self::new(e.fault(), e.to_string()) }
    }
}

macro_rules! through_service {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                ServiceError::from(e).into()
            }
        })*
    };
}
through_service!(ModelError, BuildError, StoreError, RunError, IdentityError, Error);

macro_rules! of_input {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                Self::new(Fault::Input, e.to_string())
            }
        })*
    };
}
of_input!(Unsupported, SpeedsError, std::num::ParseIntError, std::io::Error);
#[cfg(feature = "import")]
of_input!(sirnn::import::ImportError);

macro_rules! internal {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(e: $error) -> Self {
                Self::internal(e)
            }
        })*
    };
}
internal!(serde_json::Error, fmt::Error);
