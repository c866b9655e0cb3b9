//! Choices from the fuzzer's bytes. Where they end every choice is the first one, so that short inputs stand for simple cases.

use arbitrary::Unstructured;
use sirnn_kernels::aes::Prg;
use std::sync::OnceLock;

/// The fuzzer's bytes, as choices.
#[derive(Debug)]
pub struct Source<'a>(Unstructured<'a>, u32);

impl<'a> Source<'a> {
    /// Choices from these bytes.
    pub fn new(data: &'a [u8]) -> Self {
        // FNV-1a.
        let sum = data.iter().fold(0x811c_9dc5, |sum: u32, &b| (sum ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Self(Unstructured::new(data), sum >> 16)
    }

    /// 16 bits of all bytes together. What is decided by them no mutation keeps: for what is slow.
    pub fn checksum(&self) -> u32 {
        self.1
    }

    /// Whether choices are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number in `lo..=hi`.
    pub fn range(&mut self, lo: u32, hi: u32) -> u32 {
        self.0.int_in_range(lo..=hi).unwrap_or(lo)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.int_in_range(0..=n.max(1) - 1).unwrap_or(0)
    }

    /// True for one choice of `n`, and not for the first.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.range(0, n - 1) == n - 1
    }

    /// An element; there has to be one.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// The bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        let n = self.0.len();
        self.0.bytes(n).unwrap_or(&[])
    }

    /// A width: any, with a liking for those around the words of machines.
    pub fn width(&mut self) -> u32 {
        match self.range(0, 3) {
            0 => self.range(1, 16),
            1 => self.pick(&[1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64]),
            _ => self.range(1, 64),
        }
    }

    /// A number of elements: around whole words of bits, or any up to 70.
    pub fn len(&mut self) -> usize {
        match self.range(0, 1) {
            0 => self.pick(&[3, 1, 0, 2, 63, 64, 65]),
            _ => self.range(0, 70) as usize,
        }
    }

    /// A range of values for a ring of `width` bits.
    pub fn bounds(&mut self, width: u32) -> (i128, i128) {
        let (half, full) = (1i128 << (width - 1), 1i128 << width);
        match self.range(0, 7) {
            0 => (-half, half - 1),
            1 => (0, full - 1),
            2 => (0, half - 1),
            3 => (-half, 0),
            4 => (-(half / 2), half / 2),
            5 => (1, half.max(1)),
            kind => {
                // Anything that the ring determines; as a rule within it, else anywhere.
                let a = i128::from(self.word()) % full;
                let b = i128::from(self.word()) % full;
                let (lo, hi) = (a.min(b), a.max(b));
                if kind == 6 { (lo - half, hi - half) } else { (lo, hi) }
            }
        }
    }

    /// Values in a range, ends and zero among them.
    pub fn values(&mut self, n: usize, bounds: (i128, i128)) -> Vec<i128> {
        let mut prg = Prg::new(self.word().into());
        let mut words = vec![0; 2 * n];
        prg.fill_words(64, &mut words);
        words.chunks_exact(2).map(|w| value(w, bounds)).collect()
    }
}

/// A value of a range out of two random words.
fn value(words: &[u64], (lo, hi): (i128, i128)) -> i128 {
    let near = i128::from(words[1] >> 8 & 3) - 1;
    let wish = match words[1] & 15 {
        0 => lo,
        1 => hi,
        2 => near,
        3 => lo + near,
        4 => hi - near,
        5 => (lo + hi) / 2 + near,
        // Close to a power of two.
        6 => (1 << ((words[1] >> 16) % 64)) + near,
        7 => near - (1 << ((words[1] >> 16) % 64)),
        _ => lo + i128::from(words[0]) % (hi - lo + 1),
    };
    wish.clamp(lo, hi)
}

/// Whether to say what is done.
pub fn shows() -> bool {
    static SHOWS: OnceLock<bool> = OnceLock::new();
    *SHOWS.get_or_init(|| std::env::var_os("FUZZ_SHOW").is_some())
}

/// Says what is done, if somebody looks.
#[macro_export]
macro_rules! show {
    ($($what:tt)*) => {
        if $crate::source::shows() {
            eprintln!($($what)*);
        }
    };
}
