//! Where kernels are implemented: a folder per CPU architecture.
//!
//! Every folder offers the same functions, with the same names and arguments, in files of the same names. Each takes the
//! [`Level`](crate::Level) to run at and runs what its architecture has for it, and otherwise the portable code. The
//! public modules of the crate check shapes and call `native`; tests compare all levels with the lowest one.
//!
//! A new level of a known architecture is a name in `Level`, its detection and its arms in that architecture's folder. A
//! new architecture (aarch64 with NEON and its AES instructions comes to mind) is a folder, and a line here.
//!
//! Kernels without intrinsics anywhere are not here: their one body stands in its public module, and [`levels!`] compiles
//! it once per level.

#[macro_use]
mod levels;

pub(crate) mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64 as native;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use portable as native;
