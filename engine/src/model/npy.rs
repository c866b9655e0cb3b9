//! Arrays of numbers in NumPy's `.npy` format, versions 1 to 3: little endian, C order.

use super::ModelError;
use half::f16;

/// Bytes of an array's header.
const MAX_HEADER: usize = 1 << 16;

/// A number of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of an integer type.
    Whole(i64),
    /// Of a float type.
    Real(f64),
}

/// An array: its header, and its elements still as bytes.
#[derive(Clone, Debug)]
pub struct Npy<'a> {
    /// Length of every axis.
    pub shape: Vec<usize>,
    /// Bytes of an element.
    size: usize,
    read: fn(&[u8]) -> Number,
    data: &'a [u8],
}

impl<'a> Npy<'a> {
    /// Reads a file's content.
    ///
    /// # Errors
    /// If it is no array of numbers, or of another length than its shape says.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let fail = |what: &str| ModelError::new("npy header", what);
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| fail("this is no .npy file"))?;
        let (len, rest) = match rest {
            [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
            [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            _ => return Err(fail("cut short, or of an unknown version")),
        };
        if len > MAX_HEADER || len > rest.len() {
            return Err(fail("its length is wrong"));
        }
        let (header, data) = rest.split_at(len);
        let header = std::str::from_utf8(header).map_err(|_| fail("it is no text"))?;
        let field = |name: &str| {
            let at = header.find(&format!("'{name}'"))? + name.len() + 2;
            header[at..].trim_start().strip_prefix(':').map(str::trim_start)
        };
        if !field("fortran_order").ok_or_else(|| fail("no order"))?.starts_with("False") {
            return Err(fail("Fortran order is not supported, save numpy.ascontiguousarray(x)"));
        }
        let descr =
            field("descr").and_then(|f| f.strip_prefix('\'')?.split_once('\'')).ok_or_else(|| fail("no type"))?.0;
        macro_rules! reader {
            ($ty:ty, $kind:ident, $to:ty) => {
                (size_of::<$ty>(), |b: &[u8]| {
                    Number::$kind(<$to>::from(<$ty>::from_le_bytes(b.try_into().expect("sized"))))
                })
            };
        }
        let (size, read): (usize, fn(&[u8]) -> Number) = match descr {
            "|i1" | "<i1" => reader!(i8, Whole, i64),
            "<i2" => reader!(i16, Whole, i64),
            "<i4" => reader!(i32, Whole, i64),
            "<i8" => reader!(i64, Whole, i64),
            "|u1" | "<u1" => reader!(u8, Whole, i64),
            "<u2" => reader!(u16, Whole, i64),
            "<u4" => reader!(u32, Whole, i64),
            "<f2" => reader!(f16, Real, f64),
            "<f4" => reader!(f32, Real, f64),
            "<f8" => reader!(f64, Real, f64),
            big if big.starts_with('>') => {
                return Err(fail("big-endian numbers are not supported, save x.astype(x.dtype.newbyteorder('<'))"));
            }
            _ => return Err(fail("the type is none of i1 i2 i4 i8 u1 u2 u4 f2 f4 f8")),
        };
        let shape =
            field("shape").and_then(|f| f.strip_prefix('(')?.split_once(')')).ok_or_else(|| fail("no shape"))?.0;
        let shape: Option<Vec<usize>> =
            shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok()).collect();
        let shape = shape.ok_or_else(|| fail("the shape is not of whole numbers"))?;
        let expected = shape.iter().try_fold(size, |n, &m| n.checked_mul(m));
        if expected != Some(data.len()) {
            return Err(ModelError::new(
                "npy data",
                format!("{} bytes for shape {shape:?} of {size} bytes each", data.len()),
            ));
        }
        Ok(Npy { shape, size, read, data })
    }

    /// Whether the elements are of an integer type.
    pub fn is_whole(&self) -> bool {
        matches!((self.read)(&[0; 8][..self.size]), Number::Whole(_))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.size
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements in row-major order.
    pub fn numbers(&self) -> impl Iterator<Item = Number> + use<'a> {
        let read = self.read;
        self.data.chunks_exact(self.size).map(read)
    }
}
