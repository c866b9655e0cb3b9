//! The error type of this crate.

/// What can go wrong below the engine. Never carries secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer closed the connection.
    #[error("the peer closed the connection while {0}")]
    Closed(&'static str),
    /// The peer was silent for too long.
    #[error("the peer sent nothing for {0:?}; it may be stalled or unreachable")]
    Deadline(std::time::Duration),
    /// The operating system refused.
    #[error("network: {0}")]
    Io(#[from] std::io::Error),
    /// The peer sent something that the protocol does not allow.
    #[error("the peer sent an invalid message: {0}")]
    Protocol(String),
    /// More correlations were drawn than the plan demanded.
    #[error("correlation stream {0} is exhausted: the plan demanded fewer than the run uses")]
    Exhausted(String),
    /// Stored correlations are not what they should be.
    #[error("stored correlations: {0}")]
    Store(String),
    /// No such backend.
    #[error("unknown OT backend '{0}'; known: {1}")]
    UnknownBackend(String, String),
}
