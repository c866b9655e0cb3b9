//! Fresh memory for large vectors.

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

#[cfg(test)]
mod tests {
    use super::*;

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
