//! What the server brings to a program, and how it is computed from the tensors of a model.

use super::tables::Site;
use crate::fixed::wrap;
use crate::graph::ops::ParameterSpec;
use crate::graph::{Rescale, Weights};
use crate::program::Own;
use crate::protocols::bits::signed_bits;
use std::sync::Arc;

/// How a private input of the server follows from a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// The tensor.
    pub spec: ParameterSpec,
    /// Of every element.
    pub rescale: Rescale,
    /// Which element stands where; nowhere a zero. By default as they are.
    pub layout: Option<Arc<Vec<Option<u32>>>>,
}

impl Recipe {
    /// The tensor as it is.
    pub(crate) fn plain(spec: ParameterSpec) -> Self {
        Self { spec, rescale: Rescale::default(), layout: None }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.layout.as_ref().map_or_else(|| self.spec.shape.iter().product(), |l| l.len())
    }

    /// Smallest and largest element, from the declared bounds.
    pub(crate) fn range(&self) -> (i128, i128) {
        let (lo, hi) = self.spec.range;
        let (lo, hi) = (self.rescale.value(0, lo), self.rescale.value(0, hi));
        let zeros = self.layout.as_ref().is_some_and(|l| l.contains(&None));
        if zeros { (lo.min(0), hi.max(0)) } else { (lo, hi) }
    }

    /// The elements.
    pub(crate) fn values(&self, weights: &Weights) -> Vec<i128> {
        let data = &weights[&self.spec.tensor].data;
        let of = |at: usize| self.rescale.value(0, data[at].into());
        match &self.layout {
            None => (0..data.len()).map(of).collect(),
            Some(layout) => layout.iter().map(|at| at.map_or(0, |at| of(at as usize))).collect(),
        }
    }
}

/// A private input of the server.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    /// Its name in the program.
    pub name: String,
    /// Ring in which it is held.
    width: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// A tensor, rescaled and laid out.
    Tensor(Arc<Recipe>),
    /// A column of the tables of a look-up, and its register.
    Table { site: Arc<Site>, column: usize, own: Own },
}

impl Brought {
    pub(super) fn tensor(name: String, recipe: Arc<Recipe>, width: u32) -> Self {
        Self { name, width, content: Content::Tensor(recipe) }
    }

    pub(super) fn table(name: String, site: Arc<Site>, column: usize, width: u32, own: Own) -> Self {
        Self { name, width, content: Content::Table { site, column, own } }
    }

    /// Whether it is a column of that look-up.
    pub(super) fn is_of(&self, of: *const Site) -> bool {
        matches!(&self.content, Content::Table { site, .. } if Arc::as_ptr(site) == of)
    }

    /// The register of a column.
    pub(super) fn own(&self) -> Own {
        match &self.content {
            Content::Table { own, .. } => *own,
            Content::Tensor(_) => unreachable!("asked of columns"),
        }
    }

    /// The elements, as integers of the declared range.
    pub(crate) fn values(&self, weights: &Weights) -> Vec<i128> {
        match &self.content {
            Content::Tensor(recipe) => {
                let (lo, hi) = recipe.range();
                let narrow = signed_bits(lo, hi) > self.width;
                let held = |v: i128| if narrow { wrap(v, self.width, true) } else { v };
                recipe.values(weights).into_iter().map(held).collect()
            }
            Content::Table { site, column, .. } => site.held_entries(*column, self.width, weights),
        }
    }
}
