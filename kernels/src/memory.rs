//! Memory of large vectors: fresh pages for them, and wiping those that held secrets.

use std::ops::{Deref, DerefMut};

/// From this size on asking for pages is worth a system call.
// LOCAL: measured.
#[cfg(target_os = "linux")]
const LARGE: usize = 1 << 17;

/// Asks the system for all pages of a large vector's room at once, where it knows how: cheaper than one by one when they are
/// first written to. A hint: what the vector holds does not change.
fn populate<T>(v: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        let page = rustix::param::page_size();
        let (start, bytes) = (v.as_mut_ptr().addr(), v.capacity() * size_of::<T>());
        if bytes < LARGE {
            return;
        }
        let (from, to) = (start.next_multiple_of(page), (start + bytes) / page * page);
        let first = v.as_mut_ptr().cast::<u8>().wrapping_add(from - start);
        // SAFETY: the pages lie within one allocation, which this function has alone; this advice leaves their content.
        // Systems that do not know it refuse, and then pages come one by one.
        let _ = unsafe { rustix::mm::madvise(first.cast(), to - from, rustix::mm::Advice::LinuxPopulateWrite) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = v;
}

/// `n` zeros in a vector whose pages are there.
pub fn zeroed<T: bytemuck::Zeroable + Clone>(n: usize) -> Vec<T> {
    let mut v = vec![T::zeroed(); n];
    populate(&mut v);
    v
}

/// An empty vector with room for `n`, whose pages are there.
pub fn with_capacity<T>(n: usize) -> Vec<T> {
    let mut v = Vec::with_capacity(n);
    populate(&mut v);
    v
}

/// Overwrites all memory of a vector, and empties it. The `zeroize` crate does the same element by element, which for a vector
/// of bytes takes ten times as long.
pub fn wipe<T>(v: &mut Vec<T>) {
    v.clear();
    let start = v.as_mut_ptr();
    // SAFETY: all of it is spare capacity of the vector, which may hold any bytes.
    unsafe { start.write_bytes(0, v.capacity()) };
    observe(start.cast());
}

/// Makes the compiler believe that the memory behind the pointer is read, so that it does not leave out the writes.
#[inline(always)]
fn observe(start: *const u8) {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction; it is only said to read memory.
    unsafe {
        std::arch::asm!("/* {} */", in(reg) start, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::hint::black_box(start);
}

/// A vector of secrets, wiped when dropped. Not to be grown but by [`SecretVec::resize_zeroed`]: what a growing `Vec`
/// leaves behind is not wiped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretVec<T>(Vec<T>);

impl<T: Copy + Default> SecretVec<T> {
    /// Makes it `n` elements long; new ones are zeros. If that takes other memory, the old is wiped.
    pub fn resize_zeroed(&mut self, n: usize) {
        if n > self.0.capacity() {
            let mut larger = Vec::with_capacity(n);
            larger.extend_from_slice(&self.0);
            wipe(&mut self.0);
            self.0 = larger;
        }
        self.0.resize(n, T::default());
    }
}

impl<T> From<Vec<T>> for SecretVec<T> {
    fn from(v: Vec<T>) -> Self {
        Self(v)
    }
}

impl<T> Deref for SecretVec<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for SecretVec<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> Drop for SecretVec<T> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<T> std::fmt::Debug for SecretVec<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretVec({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_reaches_what_was_cut_off() {
        let mut v: Vec<u64> = (1..=1000).collect();
        v.truncate(3);
        wipe(&mut v);
        assert!(v.is_empty() && v.capacity() >= 1000);
        // SAFETY: all of it was written by `wipe`.
        unsafe { v.set_len(1000) };
        assert!(v.iter().all(|x| *x == 0));
        let mut v = SecretVec::from(vec![7u8]);
        v.resize_zeroed(100);
        assert!(v[0] == 7 && v[1..].iter().all(|x| *x == 0));
        assert_eq!(format!("{v:?}"), "SecretVec(100)");
    }

    #[test]
    fn is_a_vector_like_any_other() {
        for n in [0, 1, 1000, 1 << 13, 100_003, 1 << 20] {
            assert!(zeroed::<u64>(n) == vec![0; n]);
            let mut v = with_capacity::<u16>(n);
            v.extend((0..n).map(|i| i as u16));
            populate(&mut v);
            assert!(v.iter().enumerate().all(|(i, x)| *x == i as u16));
        }
    }
}
