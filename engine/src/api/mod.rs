//! The front door: what a program that uses this library needs, and nothing else.
//!
//! Everything here stands on [`crate::service`], and adds defaults, names and arrays in memory; the command line has the same
//! defaults.

mod client;
mod error;
mod identity;
mod inputs;
mod model;
mod planning;
mod predictions;
mod server;

pub use client::{Client, ClientBuilder};
pub use error::{Error, Result};
pub use identity::Identity;
pub use inputs::Inputs;
pub use model::{Model, Network, Port};
pub use planning::{Cost, Goal, Linear, Planning};
pub use predictions::{Output, Predictions, Row};
pub use server::{Served, Server, ServerBuilder, ServerHandle};

#[doc(inline)]
pub use crate::graph::Reveal;
#[doc(inline)]
pub use crate::service::client::Progress;
#[doc(inline)]
pub use crate::service::{Cancellation, Fault, Summary};
#[doc(inline)]
pub use sirnn_backends::transport::Link;

use crate::service::{Bounds, Connection};
use sirnn_backends::transport::Limits;

/// What both builders have: whom to talk to, for how long, and what it may cost.
#[derive(Clone, Debug, Default)]
struct Peer {
    identity: Option<Identity>,
    plaintext: bool,
    bounds: Bounds,
    limits: Limits,
}

impl Peer {
    /// Certificates are read now, so that they may be replaced while a program runs.
    fn connection(&self) -> Result<Connection> {
        let identity = self.identity.as_ref().map(Identity::load).transpose()?;
        Ok(Connection { limits: self.limits, link: None, identity, trace: None })
    }

    /// Off this machine only with an identity, or if the user said that plaintext is fine.
    fn check(&self, address: &crate::service::client::Address) -> Result<()> {
        if self.identity.is_some() || self.plaintext || address.is_loopback() {
            return Ok(());
        }
        Err(Error::input(format!(
            "'{}' is not on this machine: it takes an identity; or allow plaintext, and everybody on the way can read and \
             change everything",
            address.host
        )))
    }
}

/// The options of both builders.
macro_rules! peer_options {
    () => {
        /// Who this party is and whom it accepts: everything is encrypted (TLS 1.3). Needed unless the peer is on this machine.
        pub fn identity(mut self, identity: Identity) -> Self {
            self.peer.identity = Some(identity);
            self
        }

        /// Allows a peer on another machine without encryption or authentication: who is on the way reads and changes
        /// everything.
        pub fn insecure_plaintext(mut self) -> Self {
            self.peer.plaintext = true;
            self
        }

        /// Most bytes on the wire for a request, both ways, all phases. Default: 64 GiB.
        pub fn max_bytes(mut self, bytes: u64) -> Self {
            self.peer.bounds.bytes = bytes;
            self
        }

        /// Most bytes of memory of this party, for all requests at the same time. Default: 4 GiB.
        pub fn max_memory(mut self, bytes: u64) -> Self {
            self.peer.bounds.memory = bytes;
            self
        }

        /// Longest silence of the peer. Default: a minute.
        pub fn deadline(mut self, deadline: Duration) -> Self {
            self.peer.limits.deadline = deadline;
            self
        }

        /// Slowest rate at which a message may come, in bits per second. Default: 64,000.
        pub fn min_rate(mut self, bits_per_second: u64) -> Self {
            self.peer.limits.min_rate = bits_per_second.max(1);
            self
        }
    };
}
use peer_options;
