//! Versions without intrinsics: the definition that the others are tested against.
//!
//! Those whose loops vectorise are compiled once per level, so that other architectures' folders can call them at theirs;
//! the rest ignores the level.

pub(crate) mod aes;
pub(crate) mod bits;
pub(crate) mod limbs;
pub(crate) mod ntt;
pub(crate) mod onehot;
pub(crate) mod pack;
pub(crate) mod table;
pub(crate) mod transpose;

/// The highest level that this CPU has.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn detect() -> crate::level::Level {
    crate::level::Level::Portable
}
