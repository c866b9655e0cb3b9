//! Tensors of a float network: the values that its operators take and give.
//!
//! Three kinds of element serve all of ONNX's numeric types: `f32` for every float type, `i64` for every integer
//! type, and truth values.

/// Most elements that one tensor may have.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// Most axes that one tensor may have.
pub const MAX_RANK: usize = 16;

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// A tensor's elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Any float type.
    Float(Vec<f32>),
    /// Any integer type.
    Int(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(v) => v.len(),
            Self::Int(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An empty vector of the same kind.
    fn empty(&self) -> Self {
        match self {
            Self::Float(_) => Self::Float(Vec::new()),
            Self::Int(_) => Self::Int(Vec::new()),
            Self::Bool(_) => Self::Bool(Vec::new()),
        }
    }

    /// Appends elements `range` of `other`, which has the same kind.
    fn extend(&mut self, other: &Self, range: std::ops::Range<usize>) -> Result<(), String> {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.extend_from_slice(&b[range]),
            (Self::Int(a), Self::Int(b)) => a.extend_from_slice(&b[range]),
            (Self::Bool(a), Self::Bool(b)) => a.extend_from_slice(&b[range]),
            _ => return Err("its inputs have different types".into()),
        }
        Ok(())
    }
}

/// Number of elements of a shape.
///
/// # Errors
/// If it has more than [`MAX_ELEMENTS`] or more than [`MAX_RANK`] axes.
pub(crate) fn count(shape: &[usize]) -> Result<usize, String> {
    // An axis of length 0 must not hide that the others overflow.
    let bound = shape.iter().try_fold(1usize, |n, &m| n.checked_mul(m.max(1))).filter(|&n| n <= MAX_ELEMENTS);
    if bound.is_none() || shape.len() > MAX_RANK {
        return Err(format!("a tensor of shape {} is too large", show(shape)));
    }
    Ok(shape.iter().product())
}

/// A shape as people write it.
pub(crate) fn show(shape: &[usize]) -> String {
    const SHOWN: usize = 8;
    let mut parts: Vec<String> = shape.iter().take(SHOWN).map(usize::to_string).collect();
    if shape.len() > SHOWN {
        parts.push("...".into());
    }
    format!("[{}]", parts.join(", "))
}

/// The strides of a row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// The shape that both shapes broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < rank { 1 } else { s[i + s.len() - rank] };
    let shape: Option<Vec<usize>> = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect();
    shape.ok_or_else(|| format!("shapes {} and {} do not fit each other", show(a), show(b)))
}

impl Tensor {
    /// A tensor.
    ///
    /// # Errors
    /// If the number of elements is not the shape's, or too large.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self, String> {
        let n = count(&shape)?;
        if n != data.len() {
            return Err(format!("{} elements for shape {}", data.len(), show(&shape)));
        }
        Ok(Self { shape, data })
    }

    /// A tensor of floats.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    pub fn floats(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, String> {
        Self::new(shape, Data::Float(values))
    }

    /// A vector of integers.
    pub(crate) fn vector(values: Vec<i64>) -> Self {
        Self { shape: vec![values.len()], data: Data::Int(values) }
    }

    /// A tensor without axes.
    pub(crate) fn scalar(value: i64) -> Self {
        Self { shape: Vec::new(), data: Data::Int(vec![value]) }
    }

    /// A truth value without axes.
    pub(crate) fn truth(value: bool) -> Self {
        Self { shape: Vec::new(), data: Data::Bool(vec![value]) }
    }

    /// Length of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, which must be floats.
    ///
    /// # Errors
    /// If they are not.
    pub fn as_floats(&self) -> Result<&[f32], String> {
        match &self.data {
            Data::Float(v) => Ok(v),
            _ => Err("floats are expected".into()),
        }
    }

    /// The elements, which must be integers.
    pub(crate) fn as_ints(&self) -> Result<&[i64], String> {
        match &self.data {
            Data::Int(v) => Ok(v),
            _ => Err("integers are expected".into()),
        }
    }

    /// The elements, which must be truth values.
    pub(crate) fn as_bools(&self) -> Result<&[bool], String> {
        match &self.data {
            Data::Bool(v) => Ok(v),
            _ => Err("truth values are expected".into()),
        }
    }

    /// The elements as floats, whatever they are.
    pub(crate) fn to_floats(&self) -> Vec<f32> {
        match &self.data {
            Data::Float(v) => v.clone(),
            Data::Int(v) => v.iter().map(|&x| x as f32).collect(),
            Data::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
        }
    }

    /// The only element as an integer.
    pub(crate) fn as_int(&self) -> Result<i64, String> {
        match (&self.data, self.len()) {
            (Data::Int(v), 1) => Ok(v[0]),
            _ => Err("one integer is expected".into()),
        }
    }

    /// The only element as a truth value.
    pub(crate) fn as_bool(&self) -> Result<bool, String> {
        match (&self.data, self.len()) {
            (Data::Bool(v), 1) => Ok(v[0]),
            _ => Err("one truth value is expected".into()),
        }
    }

    /// The same elements in another shape.
    pub(crate) fn reshaped(&self, shape: Vec<usize>) -> Result<Self, String> {
        let n = count(&shape)?;
        if n != self.len() {
            return Err(format!("shape {} cannot become {}", show(&self.shape), show(&shape)));
        }
        Ok(Self { shape, data: self.data.clone() })
    }

    /// The elements at the given positions; `None` is zero.
    pub(crate) fn pick(&self, shape: Vec<usize>, at: impl Iterator<Item = Option<usize>>) -> Result<Self, String> {
        count(&shape)?;
        let data = match &self.data {
            Data::Float(v) => Data::Float(at.map(|i| i.map_or(0.0, |i| v[i])).collect()),
            Data::Int(v) => Data::Int(at.map(|i| i.map_or(0, |i| v[i])).collect()),
            Data::Bool(v) => Data::Bool(at.map(|i| i.is_some_and(|i| v[i])).collect()),
        };
        Self::new(shape, data)
    }

    /// The view with these strides, as a tensor of its own.
    pub(crate) fn strided(&self, shape: Vec<usize>, offset: usize, strides: &[isize]) -> Result<Self, String> {
        let n = count(&shape)?;
        let mut index = vec![0usize; shape.len()];
        let mut position = offset as isize;
        let steps = (0..n).map(|_| {
            let here = position as usize;
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                position += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                position -= strides[axis] * shape[axis] as isize;
                index[axis] = 0;
            }
            Some(here)
        });
        self.pick(shape.clone(), steps)
    }

    /// The tensor broadcast to a shape.
    pub(crate) fn expanded(&self, shape: &[usize]) -> Result<Self, String> {
        if self.shape == shape {
            return Ok(self.clone());
        }
        if self.rank() > shape.len() || broadcast(&self.shape, shape)? != shape {
            return Err(format!("shape {} does not broadcast to {}", show(&self.shape), show(shape)));
        }
        let own = strides(&self.shape);
        let lead = shape.len() - self.rank();
        let steps: Vec<isize> = (0..shape.len())
            .map(|i| if i < lead || self.shape[i - lead] == 1 { 0 } else { own[i - lead] as isize })
            .collect();
        self.strided(shape.to_vec(), 0, &steps)
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]` of `self`.
    pub(crate) fn transposed(&self, order: &[usize]) -> Result<Self, String> {
        let own = strides(&self.shape);
        let steps: Vec<isize> = order.iter().map(|&i| own[i] as isize).collect();
        self.strided(order.iter().map(|&i| self.shape[i]).collect(), 0, &steps)
    }

    /// Tensors one after the other along an axis.
    pub(crate) fn concat(parts: &[&Self], axis: usize) -> Result<Self, String> {
        let first = parts.first().ok_or("it has no input")?;
        let mut shape = first.shape.clone();
        if axis >= shape.len() {
            return Err(format!("axis {axis} of a tensor of shape {}", show(&shape)));
        }
        shape[axis] = 0;
        for part in parts {
            let fits = part.rank() == shape.len() && (0..shape.len()).all(|i| i == axis || part.shape[i] == shape[i]);
            if !fits {
                return Err(format!("shapes {} and {} differ off axis {axis}", show(&first.shape), show(&part.shape)));
            }
            shape[axis] += part.shape[axis];
        }
        count(&shape)?;
        let outer: usize = shape[..axis].iter().product();
        let mut data = first.data.empty();
        for i in 0..outer {
            for part in parts {
                let run: usize = part.shape[axis..].iter().product();
                data.extend(&part.data, i * run..(i + 1) * run)?;
            }
        }
        Self::new(shape, data)
    }

    /// The parts `[index, ..]` of the leading axis, without that axis.
    pub(crate) fn row(&self, index: usize) -> Result<Self, String> {
        let run: usize = self.shape[1..].iter().product();
        let mut data = self.data.empty();
        data.extend(&self.data, index * run..(index + 1) * run)?;
        Self::new(self.shape[1..].to_vec(), data)
    }

    /// Tensors of one shape, along a new leading axis.
    pub(crate) fn stack(parts: &[&Self]) -> Result<Self, String> {
        let first = parts.first().ok_or("there is nothing to stack")?;
        let mut shape = vec![parts.len()];
        shape.extend(&first.shape);
        count(&shape)?;
        let mut data = first.data.empty();
        for part in parts {
            if part.shape != first.shape {
                return Err(format!("shapes {} and {} in one stack", show(&first.shape), show(&part.shape)));
            }
            data.extend(&part.data, 0..part.len())?;
        }
        Self::new(shape, data)
    }
}
