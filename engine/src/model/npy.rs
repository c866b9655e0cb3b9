//! Arrays of numbers in NumPy's format: versions 1 to 3, C order, little endian.

use super::ModelError;

/// Bytes of an array's header.
const MAX_HEADER: usize = 1 << 16;
/// Bytes before the data are a multiple of this.
const ALIGN: usize = 64;

/// A number of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Whole(i64),
    /// A floating-point number.
    Real(f64),
}

/// An array that is read: a view of a file's content.
pub struct Npy<'a> {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Bytes of an element.
    size: usize,
    read: fn(&[u8]) -> Value,
    data: &'a [u8],
}

impl std::fmt::Debug for Npy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Npy {:?}", self.shape)
    }
}

/// A half-precision number: 1 bit sign, 5 bits exponent, 10 bits mantissa.
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + mantissa) * 2f64.powi(e - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

impl<'a> Npy<'a> {
    /// Reads a file's content.
    ///
    /// # Errors
    /// What is wrong with its header, or a length that does not fit the shape.
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
                    Value::$kind(<$to>::from(<$ty>::from_le_bytes(b.try_into().expect("sized"))))
                })
            };
        }
        let (size, read): (usize, fn(&[u8]) -> Value) = match descr {
            "|i1" | "<i1" => reader!(i8, Whole, i64),
            "<i2" => reader!(i16, Whole, i64),
            "<i4" => reader!(i32, Whole, i64),
            "<i8" => reader!(i64, Whole, i64),
            "|u1" | "<u1" => reader!(u8, Whole, i64),
            "<u2" => reader!(u16, Whole, i64),
            "<u4" => reader!(u32, Whole, i64),
            "<f2" => (2, |b: &[u8]| Value::Real(half(u16::from_le_bytes([b[0], b[1]])))),
            "<f4" => reader!(f32, Real, f64),
            "<f8" => reader!(f64, Real, f64),
            big if big.starts_with('>') => {
                return Err(fail(
                    "big-endian numbers are not supported, save them in little endian: x.astype(x.dtype.newbyteorder('<'))",
                ));
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

    /// Whether the numbers are of an integer type.
    pub fn is_whole(&self) -> bool {
        matches!((self.read)(&[0; 8][..self.size]), Value::Whole(_))
    }

    /// The numbers, last axis fastest.
    pub fn values(&self) -> impl ExactSizeIterator<Item = Value> + '_ {
        self.data.chunks_exact(self.size).map(|b| (self.read)(b))
    }
}

fn write(descr: &str, shape: &[usize], data: impl Iterator<Item = [u8; 8]>) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let before = b"\x93NUMPY\x01\x00".len() + 2;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGN) - before - 1;
    header = format!("{header:<padded$}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(data.flatten());
    file
}

/// The content of a file of double-precision numbers.
pub fn reals(shape: &[usize], data: &[f64]) -> Vec<u8> {
    write("<f8", shape, data.iter().map(|v| v.to_le_bytes()))
}

/// The content of a file of 64-bit integers.
pub fn integers(shape: &[usize], data: &[i64]) -> Vec<u8> {
    write("<i8", shape, data.iter().map(|v| v.to_le_bytes()))
}
