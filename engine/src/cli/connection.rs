//! Options about the peer: where it is, who it is, how long to wait for it and what it may cost.

use super::{Failure, Net};
use clap::Args;
use sirnn::service::client::Address;
use sirnn::service::identity::{Fingerprint, Identity, Settings};
use sirnn::service::{Bounds, Connection};
use sirnn_backends::transport::Limits;
use std::path::PathBuf;
use std::time::Duration;

/// What a request may cost.
#[derive(Args, Clone)]
pub(super) struct Ceilings {
    /// Most bytes on the wire for all items of a request, both ways, all phases (suffixes k, M, G)
    #[arg(long, value_name = "BYTES", default_value = "64G", value_parser = byte_count)]
    max_bytes: u64,
    /// Most memory for this party: for all requests at the same time (suffixes k, M, G)
    #[arg(long, value_name = "BYTES", default_value = "4G", value_parser = byte_count)]
    max_memory: u64,
}

impl Ceilings {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { bytes: self.max_bytes, memory: self.max_memory }
    }
}

/// What a party accepts to spend, and for how long it waits.
#[derive(Args, Clone)]
pub(super) struct Spending {
    #[command(flatten)]
    ceilings: Ceilings,
    /// Longest silence of the peer in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    deadline: Duration,
    /// Slowest rate at which a message may come, in bits per second (suffixes k, M): one takes at most the deadline and
    /// its length at this rate
    #[arg(long, value_name = "RATE", default_value = "64000", value_parser = rate)]
    min_rate: u64,
}

impl Spending {
    /// The same options for another process.
    pub(super) fn arguments(&self) -> Vec<String> {
        let values = [
            ("--max-bytes", self.ceilings.max_bytes.to_string()),
            ("--max-memory", self.ceilings.max_memory.to_string()),
            ("--deadline", self.deadline.as_secs_f64().to_string()),
            ("--min-rate", self.min_rate.to_string()),
        ];
        values.into_iter().flat_map(|(option, value)| [option.to_string(), value]).collect()
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.ceilings.bounds()
    }

    pub(super) fn connection(&self, net: Net, identity: Option<Identity>) -> Connection {
        let limits = Limits { deadline: self.deadline, min_rate: self.min_rate };
        Connection { limits, link: net.0, identity, trace: None }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }
}

pub(super) fn byte_count(s: &str) -> Result<u64, String> {
    let (number, unit) = match s.char_indices().last() {
        Some((i, 'k')) => (&s[..i], 1 << 10),
        Some((i, 'M')) => (&s[..i], 1 << 20),
        Some((i, 'G')) => (&s[..i], 1 << 30),
        _ => (s, 1u64),
    };
    let n: Option<u64> = number.parse().ok();
    n.and_then(|n| n.checked_mul(unit)).ok_or_else(|| "a whole number, perhaps with k, M or G".into())
}

fn rate(s: &str) -> Result<u64, String> {
    let (number, unit) = match s.char_indices().last() {
        Some((i, 'k')) => (&s[..i], 1_000),
        Some((i, 'M')) => (&s[..i], 1_000_000),
        _ => (s, 1u64),
    };
    let n: Option<u64> = number.parse().ok().filter(|n| *n > 0);
    n.and_then(|n| n.checked_mul(unit)).ok_or_else(|| "a whole number above 0, perhaps with k or M".into())
}

pub(super) fn seconds(s: &str) -> Result<Duration, String> {
    let n: Option<f64> = s.parse().ok().filter(|n| (0.001..=86_400.0).contains(n));
    n.map(Duration::from_secs_f64).ok_or_else(|| "between 0.001 and 86400".into())
}

/// Who this party is, and whom it accepts.
#[derive(Args, Clone)]
pub(super) struct Tls {
    /// This party's certificate (PEM, perhaps a chain): everything is encrypted (TLS 1.3) and both parties prove who they
    /// are. Needed unless the peer is on this machine; `sirnn certificate new` makes one
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Accept the peer whose certificate has this SHA-256 fingerprint; may be repeated
    #[arg(long, value_name = "HEX", requires = "certificate")]
    peer_fingerprint: Vec<Fingerprint>,
    /// Accept the peers whose fingerprints are in this file, one a line
    #[arg(long, value_name = "FILE", requires = "certificate")]
    peer_fingerprint_file: Option<PathBuf>,
    /// Accept peers with a certificate of the authorities in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    peer_ca: Option<PathBuf>,
    /// The name in such a certificate (a client's default: that of the server's address; a server's: any)
    #[arg(long, value_name = "NAME", requires = "peer_ca")]
    peer_name: Option<String>,
    /// Allow a peer on another machine without encryption or authentication: who is on the way reads and changes everything
    #[arg(long, conflicts_with = "certificate")]
    insecure_plaintext: bool,
}

impl Tls {
    /// Where the identity stands, if there is one.
    pub(super) fn settings(&self) -> Option<Settings> {
        Some(Settings {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            fingerprints: self.peer_fingerprint.clone(),
            fingerprint_file: self.peer_fingerprint_file.clone(),
            authority: self.peer_ca.clone(),
            name: self.peer_name.clone(),
        })
    }

    /// Resolves an address; off loopback only with an identity, or if the user said that plaintext is fine.
    pub(super) fn resolve(&self, address: &str) -> Result<(Address, Option<Identity>), Failure> {
        let server = Address::resolve(address)?;
        let identity = self.settings().as_ref().map(Identity::load).transpose()?;
        if identity.is_none() && !self.insecure_plaintext && !server.is_loopback() {
            return Err(format!(
                "address '{address}' is not on this machine: it takes --certificate, --key and --peer-fingerprint or \
                 --peer-ca; or say --insecure-plaintext, and everybody on the way can read and change everything"
            )
            .into());
        }
        Ok((server, identity))
    }
}
