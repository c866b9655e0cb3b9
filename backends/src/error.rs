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
    /// The peer does not read what it is sent.
    #[error("the peer read nothing for {0:?}; it may be stalled or unreachable")]
    Unread(std::time::Duration),
    /// The peer is not silent, but too slow.
    #[error("the peer took more than {limit:?} for a message of {bytes} bytes, slower than --min-rate allows")]
    Slow {
        /// Length of the message.
        bytes: usize,
        /// Longest time for it.
        limit: std::time::Duration,
    },
    /// TLS cannot be set up, or a message was changed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The parties disagree about what was sent.
    #[error("the two parties disagree about what was sent: something changed it on its way. There is no result")]
    Transcript,
    /// The peer ended the session, and said why.
    #[error("the peer ended the session: {0}")]
    Ended(String),
    /// The operating system refused.
    #[error("network: {0}")]
    Io(#[from] std::io::Error),
    /// The peer sent something that the protocol does not allow.
    #[error("the peer sent an invalid message: {0}")]
    Protocol(String),
    /// More correlations were drawn than the plan demanded.
    #[error("internal error: correlation stream {0} is exhausted: the plan demanded fewer than the run uses")]
    Exhausted(String),
    /// This program did not do what it planned.
    #[error("internal error: {0}")]
    Internal(String),
    /// Stored correlations are not what they should be.
    #[error("stored correlations: {0}")]
    Store(String),
    /// No such backend.
    #[error("unknown OT backend '{0}'; known: {1}")]
    UnknownBackend(String, String),
}
