//! A tensor of integers: values of one item in the evaluator, and weights.

/// Row-major integers with a shape.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Sizes of the axes; none for a scalar.
    pub shape: Vec<usize>,
    /// The elements, last axis fastest.
    pub data: Vec<i64>,
}

impl std::fmt::Debug for Tensor {
    // Values are somebody's secrets: the shape alone is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor {:?}", self.shape)
    }
}

impl Tensor {
    /// A tensor of `data`.
    ///
    /// # Panics
    /// If `shape` has another number of elements.
    pub fn new(shape: Vec<usize>, data: Vec<i64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of {shape:?}");
        Self { shape, data }
    }

    /// All elements the same.
    pub fn filled(shape: Vec<usize>, value: i64) -> Self {
        let n = shape.iter().product();
        Self { shape, data: vec![value; n] }
    }
}
