//! Secure two-party inference for recurrent neural networks, exact in fixed point of mixed bit widths.
//!
//! A **server** owns a trained network, a **client** owns time series. Together they compute the network's predictions: the client learns
//! its results, the server learns nothing about the inputs, and the weights never leave it.
//!
//! ```text
//!      client                                                        server
//!   +-------------------+    network (public): shapes, widths     +-------------------+
//!   |  inputs, private  |  <------------------------------------  | weights, private  |
//!   |  predictions      |    masked numbers, in planned rounds    |                   |
//!   |                   |  <----------------------------------->  | learns: how many  |
//!   |  Client::predict  |    its share of the predictions         | items, how long   |
//!   |                   |  <------------------------------------  | Server::listen    |
//!   +-------------------+                                         +-------------------+
//! ```
//!
//! # A tour
//!
//! A server is a model and an address:
//!
//! ```no_run
//! # fn main() -> sirnn::Result<()> {
//! let model = sirnn::Model::load("models/digits")?;
//! let server = sirnn::Server::listen(&model, "127.0.0.1:7700")?;
//! server.wait();
//! # Ok(())
//! # }
//! ```
//!
//! A client connects, and asks as often as it likes. This is both in one program; everything else is done by defaults:
//!
//! ```
//! use sirnn::{Client, Inputs, Model, Server};
//! # fn main() -> sirnn::Result<()> {
//! # if !std::path::Path::new("../models/digits").exists() { return Ok(()); }
//! let model = Model::load("../models/digits")?;
//! let server = Server::listen(&model, "127.0.0.1:0")?;
//!
//! let client = Client::connect(&server.address().to_string())?;
//! let images = [0.25; 2 * 8 * 8]; // two images of 8 rows with 8 pixels
//! let predictions = client.predict(Inputs::reals(&images, &[2, 8, 8]))?;
//! println!("{:?}", predictions.labels());
//!
//! // Exact: what two parties compute is what the network computes, bit for bit.
//! assert!(predictions.agree(&model.evaluate(Inputs::reals(&images, &[2, 8, 8]))?));
//! server.stop();
//! # Ok(())
//! # }
//! ```
//!
//! * **Inputs** are slices of reals or integers with a shape, or time series of different lengths: [`Inputs`].
//! * **Predictions** are classes, scores or values, per item and, where the network says so, per time step: [`Predictions`], [`Output`].
//! * **Costs** are known before anything runs: [`Network::plan`]. A run that takes another number of rounds or bytes is an error. What
//!   a request did cost is in [`Predictions::summary`].
//! * **Between two machines** everything is encrypted and both sides prove who they are: [`Identity`].
//! * **Limits** for bytes, memory, items, sessions and silence have defaults, and are set by [`Client::builder`] and
//!   [`Server::builder`], as are callbacks for progress and sessions.
//! * **An end from another thread**: [`Cancellation`] for requests, [`ServerHandle`] for servers.
//! * **Errors** are one line, and say whose fault they are: [`Error`], [`Fault`].
//!
//! Two machines, each of which knows the other's fingerprint:
//!
//! ```
//! # fn main() -> sirnn::Result<()> {
//! # if !std::path::Path::new("../models/digits").exists() { return Ok(()); }
//! # let folder = std::env::temp_dir().join(format!("sirnn-tour-{}", std::process::id()));
//! # let model = sirnn::Model::load("../models/digits")?;
//! use sirnn::{Client, Identity, Inputs, Server};
//! let (hospital, hospital_print) = Identity::create("hospital.example", folder.join("hospital"))?;
//! let (vendor, vendor_print) = Identity::create("vendor.example", folder.join("vendor"))?;
//!
//! let server = Server::builder(&model).identity(vendor.accept(&hospital_print)?).listen("127.0.0.1:0")?;
//! let client = Client::builder(server.address().to_string()).identity(hospital.accept(&vendor_print)?).connect()?;
//! assert_eq!(client.predict(Inputs::reals(&[0.0; 64], &[1, 8, 8]))?.len(), 1);
//! # drop(server);
//! # let _ = std::fs::remove_dir_all(folder);
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! ```text
//!   front door   Model  Client  Server  Predictions          this page
//!   service      connections, identities, limits, queue      | engine
//!   model        description and weights, fixed point        |
//!   functions    matmul, sigmoid, argmax ...: each says      |
//!                what it is, and how two parties do it       |
//!   program      six instructions, scheduled in rounds;      |
//!                exact cost                                  v
//!   backend      oblivious transfer, transport               sirnn-backends
//!   kernel       one vector in, one vector out, per CPU      sirnn-kernels
//! ```
//!
//! Protocols describe what to do and never touch a socket. Everything else is derived: independent work shares rounds, loops over time
//! steps are planned once and overlapped, and both parties compare a hash of the whole plan before they start. All layers are modules
//! of this crate that can be reached and are not documented here: they change without notice.
//!
//! # What it protects against
//!
//! *Semi-honest* parties, which follow the protocol and try to learn from what they see, with 128 bits. **Not** a malicious party, which
//! deviates: it may learn secrets or falsify results, but cannot crash its peer or make it hang. **Not** the extraction of a model by
//! its answers. Public are the network's architecture, bit widths and scales, the numbers of items and their lengths, and the timing
//! of messages. With products from ring-LWE ([`Linear`]) a client that deviates may read weights; with [`Linear::Cot`] it
//! cannot in the offline phase. It is young, unaudited research software; `SECURITY.md` in the source has the arguments.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `cli` (default) | the program `sirnn` |
//! | `import` (default) | trained networks from ONNX files |
//!
//! A library user needs neither: `default-features = false`.
#![forbid(unsafe_code)]

mod api;
pub use api::*;

#[doc(hidden)]
pub mod compile;
#[doc(hidden)]
pub mod fixed;
#[doc(hidden)]
pub mod graph;
#[cfg(feature = "import")]
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod protocols;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod service;
