//! Items in memory.

use super::{Error, Network, Result};
use crate::model::input::{Array, Items};
use crate::model::npy::Value;

/// The items of a request: for each input of the network an array `[items, shape..]`, last axis fastest.
///
/// Integers are used as they are. A real `x` becomes the integer nearest to `x 2^scale`, at the scale of the input. What does not fit the
/// input's width is an error, as is a number that is not finite.
///
/// ```
/// use sirnn::Inputs;
/// let images = Inputs::reals(&[0.5; 2 * 8 * 8], &[2, 8, 8]); // two items of 8 steps with 8 features
/// let series = Inputs::real_sequences([&[0.5; 16][..], &[0.25; 40]], &[8]); // one of 2 steps, one of 5
/// let both = Inputs::integers(&[1i16; 20], &[2, 10]).named("sound").and(Inputs::reals(&[0.1f32; 4], &[2, 2]).named("state"));
/// # let _ = (images, series, both);
/// ```
#[derive(Clone, Debug)]
pub struct Inputs {
    arrays: Vec<Array>,
    /// What is wrong with it, said when it is used.
    wrong: Option<String>,
}

fn real<T: Copy + Into<f64>>(&value: &T) -> Value {
    Value::Real(value.into())
}

fn whole<T: Copy + Into<i64>>(&value: &T) -> Value {
    Value::Whole(value.into())
}

impl Inputs {
    /// Real numbers of shape `[items, ..]`.
    pub fn reals<T: Copy + Into<f64>>(values: &[T], shape: &[usize]) -> Self {
        Self::array(values.iter().map(real).collect(), shape, None)
    }

    /// Integers of shape `[items, ..]`.
    pub fn integers<T: Copy + Into<i64>>(values: &[T], shape: &[usize]) -> Self {
        Self::array(values.iter().map(whole).collect(), shape, None)
    }

    /// Time series of real numbers, each with as many steps as it has; `step` is the shape of one step. Lengths are public.
    pub fn real_sequences<T, S>(items: impl IntoIterator<Item = S>, step: &[usize]) -> Self
    where
        T: Copy + Into<f64>,
        S: AsRef<[T]>,
    {
        Self::sequences(items.into_iter().map(|s| s.as_ref().iter().map(real).collect()).collect(), step)
    }

    /// Time series of integers, as [`Inputs::real_sequences`].
    pub fn integer_sequences<T, S>(items: impl IntoIterator<Item = S>, step: &[usize]) -> Self
    where
        T: Copy + Into<i64>,
        S: AsRef<[T]>,
    {
        Self::sequences(items.into_iter().map(|s| s.as_ref().iter().map(whole).collect()).collect(), step)
    }

    fn array(values: Vec<Value>, shape: &[usize], lengths: Option<Vec<usize>>) -> Self {
        Self { arrays: vec![Array { name: None, shape: shape.to_vec(), values, lengths }], wrong: None }
    }

    fn sequences(items: Vec<Vec<Value>>, step: &[usize]) -> Self {
        let size = step.iter().product::<usize>().max(1);
        let broken = items.iter().position(|item| item.is_empty() || !item.len().is_multiple_of(size));
        let wrong = broken.map(|i| format!("item {i} has {} numbers, a step has {size}", items[i].len()));
        let lengths: Vec<usize> = items.iter().map(|item| item.len() / size).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let shape = [&[items.len(), longest], step].concat();
        let filled = items.into_iter().flat_map(|mut item| {
            item.resize(longest * size, Value::Whole(0));
            item
        });
        Self { wrong, ..Self::array(filled.collect(), &shape, Some(lengths)) }
    }

    /// For the input of this name, where the network has several.
    pub fn named(mut self, name: &str) -> Self {
        self.arrays.iter_mut().for_each(|a| a.name = Some(name.into()));
        self
    }

    /// With the arrays of other inputs.
    pub fn and(mut self, other: Self) -> Self {
        self.arrays.extend(other.arrays);
        self.wrong = self.wrong.or(other.wrong);
        self
    }

    /// As the network's integers; at least one item.
    pub(super) fn quantise(self, network: &Network) -> Result<Items> {
        if let Some(wrong) = self.wrong {
            return Err(Error::input(wrong));
        }
        if self.arrays.iter().any(|a| a.shape.first() == Some(&0)) {
            return Err(Error::input("there are no items"));
        }
        Ok(Items::from_arrays(&network.0, self.arrays)?)
    }
}
