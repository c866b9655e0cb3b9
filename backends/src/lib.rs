//! What executes the interactive instructions of a program: oblivious transfer of some flavour, the correlations
//! made from it, the message forms of each instruction, and the transport that carries them.
//!
//! Reading order: [`vector`] (what a register holds), [`inst`] (the instructions and their messages),
//! [`correlation`] and [`onehot`] (what they consume), [`forms`] (how each is run), [`ot`] (where correlations come from), [`random`] (where secrets
//! come from), [`transport`].
#![forbid(unsafe_code)]

pub mod correlation;
pub mod dealer;
mod error;
pub mod forms;
pub mod inst;
pub mod onehot;
pub mod ot;
pub mod random;
pub mod table;
pub mod transport;
pub mod vector;

pub use error::Error;
pub use inst::Party;
