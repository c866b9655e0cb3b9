//! `sirnn certificate`: who a party is.

use super::Failure;
use clap::{Args, Subcommand};
use serde_json::json;
use sirnn::run::file;
use sirnn::service::identity::{Fingerprint, NewFiles, create_certificate};
use sirnn::service::local::print_line;
use std::path::PathBuf;

/// Make a key and a certificate, or show a certificate's fingerprint
///
/// Two parties that know each other's fingerprints need nobody else: each gives the other's to --peer-fingerprint.
/// Certificates of any other source do as well.
#[derive(Args)]
pub(super) struct Certificate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(New),
    Show(Show),
}

/// Make a key and a self-signed certificate, and print its SHA-256 fingerprint
#[derive(Args)]
struct New {
    /// Name of the party: of its host, or anything else
    #[arg(long)]
    name: String,
    /// Folder for certificate.pem and key.pem; nothing there is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days for which it is valid
    #[arg(long, value_name = "N", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Print the SHA-256 fingerprint of a certificate
#[derive(Args)]
struct Show {
    /// The certificate (PEM)
    file: PathBuf,
}

impl Certificate {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::New(new) => new.run(),
            Command::Show(show) => show.run(),
        }
    }
}

impl New {
    fn run(self) -> Result<(), Failure> {
        let new = create_certificate(&self.name, &self.out, self.days)?;
        let NewFiles { certificate, key, fingerprint } = new;
        if self.json {
            print_line(json!({ "certificate": certificate, "key": key, "fingerprint": fingerprint.to_string() }));
        } else {
            print_line(format_args!("certificate  {}", certificate.display()));
            print_line(format_args!("key          {} (secret)", key.display()));
            print_line(format_args!("fingerprint  {fingerprint}"));
        }
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let wrong = |e: String| format!("{}: {e}", self.file.display());
        let text = file::read(&self.file, 1 << 20).map_err(|e| wrong(e.to_string()))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|e| wrong(format!("no certificate: {e}")))?;
        print_line(Fingerprint::of(&pem.contents));
        Ok(())
    }
}
