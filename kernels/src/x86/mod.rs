//! Versions with x86-64 intrinsics.
//!
//! Functions here are `target_feature` functions: inside, intrinsics without pointers are safe. Callers establish the
//! features through [`crate::level::Level::checked`].

pub(crate) mod aes;
pub(crate) mod transpose;
