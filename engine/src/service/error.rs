//! What can go wrong in a service, and whose fault it is.

use super::identity::IdentityError;
use crate::model::ModelError;
use crate::program::BuildError;
use crate::run::RunError;
use crate::run::store::StoreError;
use sirnn_backends::Error;
use std::time::Duration;

/// Why a service or a request ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// What the peer said in the handshake cannot be accepted.
    #[error("{0}")]
    Handshake(String),
    /// The peer said no.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The server has no room.
    #[error("the server is busy; try again in {0:?}")]
    Busy(Duration),
    /// This side ends.
    #[error("{0}")]
    Ended(String),
    /// The user of this side cancelled the request.
    #[error("the client cancelled the request")]
    Cancelled,
    /// More than this side wants to spend.
    #[error("{0}")]
    Limit(String),
    /// The request makes no sense here.
    #[error("{0}")]
    Request(String),
    /// A description, or items, that cannot be used.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// No program can be built for the request.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// A store cannot be made or used.
    #[error("store {0}")]
    Store(#[from] StoreError),
    /// A certificate or a key cannot be used.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// A session failed.
    #[error("{0}")]
    Run(#[from] RunError),
    /// Outside of a session.
    #[error("{0}")]
    Network(#[from] Error),
    /// The server process on this machine failed.
    #[error("the server process: {what}")]
    Process {
        /// What it said.
        what: String,
        /// Whose fault that is, by its exit status.
        fault: Fault,
    },
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<std::io::Error> for ServiceError {
    fn from(e: std::io::Error) -> Self {
        Self::Network(e.into())
    }
}

impl From<rustls::Error> for ServiceError {
    fn from(e: rustls::Error) -> Self {
        Self::Internal(format!("TLS: {e}"))
    }
}

/// Whose fault an error is, or where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// What this side's user gave: a model, items, a store, a certificate.
    Input,
    /// The peer broke the protocol, refused, or is another release.
    Peer,
    /// The network: unreachable, closed, silent, altered.
    Network,
    /// A limit of either side.
    Limit,
    /// The server has no room at present.
    Busy,
    /// This program.
    Internal,
}

impl Fault {
    /// One word, as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Input => "input",
            Fault::Peer => "peer",
            Fault::Network => "network",
            Fault::Limit => "limit",
            Fault::Busy => "busy",
            Fault::Internal => "internal",
        }
    }

    /// The exit status of a command that failed with it. 0 is success and 2 an error in the usage of the command line.
    pub fn status(self) -> u8 {
        match self {
            Fault::Internal => 1,
            Fault::Input => 3,
            Fault::Peer => 4,
            Fault::Network => 5,
            Fault::Limit => 6,
            Fault::Busy => 7,
        }
    }

    /// The one with this exit status.
    pub fn of_status(status: i32) -> Self {
        let all = [Fault::Input, Fault::Peer, Fault::Network, Fault::Limit, Fault::Busy];
        all.into_iter().find(|f| i32::from(f.status()) == status).unwrap_or(Fault::Internal)
    }

    /// Of an error below the engine.
    pub fn of(e: &Error) -> Self {
        match e {
            Error::Protocol(_) | Error::Ended(_) | Error::Tls(_) => Fault::Peer,
            Error::Exhausted(_) | Error::Internal(_) => Fault::Internal,
            Error::Store(_) | Error::UnknownBackend(..) => Fault::Input,
            _ => Fault::Network,
        }
    }
}

impl ServiceError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Handshake(_) | Self::Refused(_) => Fault::Peer,
            Self::Busy(_) => Fault::Busy,
            Self::Limit(_) | Self::Ended(_) | Self::Cancelled => Fault::Limit,
            Self::Request(_) | Self::Model(_) | Self::Build(_) | Self::Store(_) | Self::Identity(_) => Fault::Input,
            Self::Run(RunError::Input(_)) => Fault::Input,
            Self::Run(RunError::Backend { source, .. }) | Self::Network(source) => Fault::of(source),
            Self::Process { fault, .. } => *fault,
            Self::Internal(_) => Fault::Internal,
        }
    }

    /// Whether the peer still listens to why this side ends.
    pub(super) fn is_news(&self) -> bool {
        let closed = |e: &Error| matches!(e, Error::Closed(_) | Error::Ended(_) | Error::Io(_) | Error::Unread(_));
        match self {
            Self::Refused(_) | Self::Busy(_) => false,
            Self::Network(e) | Self::Run(RunError::Backend { source: e, .. }) => !closed(e),
            _ => true,
        }
    }

    /// The reason as the peer gets it.
    pub(super) fn for_peer(&self) -> String {
        match self {
            // Names of files are not the peer's business.
            Self::Store(e) => format!("its store: {}", e.what),
            Self::Identity(_) | Self::Process { .. } | Self::Internal(_) => "internal error".into(),
            other => other.to_string(),
        }
    }
}
