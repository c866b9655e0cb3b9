//! What values a network takes on calibration items: the ranges that fixed-point formats are chosen by.

use super::network::evaluate::evaluate;
use super::network::{Init, Network, Node, Op, ValueId};
use super::tensor::Tensor;

/// Smallest and largest element of every value.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Ranges {
    /// Computes all items; each has the inputs in the order of the network's.
    ///
    /// # Errors
    /// If there is no item, an item has a wrong shape, or a value is no finite number: names it.
    pub fn observe(network: &Network, items: &[Vec<Tensor>]) -> Result<Self, String> {
        let n = network.values.len();
        let mut ranges = Self { low: vec![f32::INFINITY; n], high: vec![f32::NEG_INFINITY; n] };
        if items.is_empty() {
            return Err("there is no calibration item".into());
        }
        for (i, item) in items.iter().enumerate() {
            let mut broken = None;
            evaluate(network, item, &mut |id, value| {
                let Ok(values) = value.as_floats() else { return };
                if values.iter().any(|v| !v.is_finite()) {
                    broken.get_or_insert(id);
                }
                for &v in values {
                    ranges.include(id, v);
                }
            })?;
            if let Some(id) = broken {
                return Err(format!("item {i}: value '{}' is no finite number", network.values[id.index()].name));
            }
        }
        ranges.join_states(&network.nodes);
        Ok(ranges)
    }

    /// Adds what was observed on other items, of the same network or of that for another number of time steps.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.low.iter_mut().zip(&other.low) {
            *own = own.min(*other);
        }
        for (own, other) in self.high.iter_mut().zip(&other.high) {
            *own = own.max(*other);
        }
    }

    /// The smallest and largest element of a value; of one that was never computed, zero.
    pub fn of(&self, id: ValueId) -> (f32, f32) {
        let (low, high) = (self.low[id.index()], self.high[id.index()]);
        if low <= high { (low, high) } else { (0.0, 0.0) }
    }

    /// The largest magnitude of a value.
    pub fn magnitude(&self, id: ValueId) -> f32 {
        let (low, high) = self.of(id);
        low.abs().max(high.abs())
    }

    fn include(&mut self, id: ValueId, v: f32) {
        let (low, high) = (&mut self.low[id.index()], &mut self.high[id.index()]);
        *low = low.min(v);
        *high = high.max(v);
    }

    /// A state and what a step leaves of it have one range, that of the state before the first step included.
    fn join_states(&mut self, nodes: &[Node]) {
        for node in nodes {
            let Op::Scan(scan) = &node.op else { continue };
            for state in &scan.states {
                let mut ends = vec![self.of(state.now), self.of(state.next)];
                match &state.init {
                    Init::Value(id) => ends.push(self.of(*id)),
                    Init::Constant(t) => ends.extend(t.as_floats().into_iter().flatten().map(|&v| (v, v))),
                }
                for (low, high) in ends {
                    for id in [state.now, state.next] {
                        self.include(id, low);
                        self.include(id, high);
                    }
                }
            }
        }
    }
}
