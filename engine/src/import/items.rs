//! Which part of an array is an item.
//!
//! A network is taken over for one item. The batch axis of a file's input, if it has one, is what items do not have; an
//! axis that is left free beside it is time. An array with one axis more than the file's input has the items first; in one
//! with as many axes the items lie along the batch axis; without a batch axis it is one item.

use super::ImportError;
use super::onnx::{Dim, Input};
use super::recognise::Port;
use super::tensor::{Tensor, show};

/// Items of an array, all of one shape, and the input that they are for.
#[derive(Clone, Debug)]
pub struct Items {
    /// How an item enters the network.
    pub port: Port,
    /// The items, without the batch axis.
    pub items: Vec<Tensor>,
}

/// The batch axis of an input, if it has one.
///
/// It is the free axis that is called so, else a first axis that is free and not called after time, else a first axis of
/// length 1, else a second axis of length 1 behind a first one that is time.
pub fn batch_axis(input: &Input) -> Option<usize> {
    let dims = input.shape.as_ref()?;
    let named = |words: &[&str], d: &Dim| match d {
        Dim::Free(name) => {
            let name = name.to_lowercase();
            words.iter().any(|w| if w.len() == 1 { name == *w } else { name.contains(w) })
        }
        Dim::Fixed(_) => false,
    };
    if let Some(axis) = dims.iter().position(|d| named(&["batch", "b", "n"], d)) {
        return Some(axis);
    }
    let is_time = named(&["time", "seq", "step", "len", "frame", "t"], dims.first()?);
    match dims[..] {
        [Dim::Free(_), ..] if !is_time => Some(0),
        [Dim::Fixed(1), _, ..] => Some(0),
        [_, Dim::Fixed(1), _] => Some(1),
        _ => None,
    }
}

/// The items of an array for an input of a file.
///
/// # Errors
/// If the array does not fit the input.
pub fn items(input: &Input, array: &Tensor) -> Result<Items, ImportError> {
    let fail = |what: String| ImportError::value(&input.name, what);
    let dims = input.shape.as_ref().ok_or_else(|| fail("the file does not say its shape".into()))?;
    let batch = batch_axis(input);
    let expected = || {
        let dims = dims.iter().map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Free(_) => "*".into(),
        });
        format!("[{}]", dims.collect::<Vec<_>>().join(", "))
    };
    let wrong = || fail(format!("an array of shape {} for an input of shape {}", show(array.shape()), expected()));
    // The items' axis first.
    let (array, own) = match (array.rank().checked_sub(dims.len()), batch) {
        (Some(1), _) => (array.clone(), array.shape()[1..].to_vec()),
        (Some(0), Some(axis)) => {
            let order: Vec<usize> = std::iter::once(axis).chain((0..array.rank()).filter(|&i| i != axis)).collect();
            let mut own = array.shape().to_vec();
            own[axis] = 1;
            (array.transposed(&order).map_err(fail)?, own)
        }
        (Some(0), None) => {
            let shape = std::iter::once(1).chain(array.shape().iter().copied()).collect();
            (array.reshaped(shape).map_err(fail)?, array.shape().to_vec())
        }
        _ => return Err(wrong()),
    };
    let fits = dims.iter().zip(&own).enumerate().all(|(i, (d, &n))| match d {
        _ if Some(i) == batch => n == 1,
        Dim::Fixed(m) => n == *m,
        Dim::Free(_) => n > 0,
    });
    if !fits || array.is_empty() {
        return Err(wrong());
    }
    let mut item = own.clone();
    if let Some(axis) = batch {
        item.remove(axis);
    }
    let items = (0..array.shape()[0]).map(|i| array.row(i).and_then(|t| t.reshaped(item.clone())));
    let items = items.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    Ok(Items { port: Port { name: input.name.clone(), shape: own, batch }, items })
}
