//! Scales of weights, one for each output channel.
//!
//! The sum of a product stays exact until a bias and other products are added to it, and has no rescale of its own. So products
//! whose channels meet in a sum have scales that differ by the same power of two in all channels: what differs from channel
//! to channel is in common. A channel that meets a value of one scale for all shares its scale with all that do.

/// Sets of channels whose scales are tied.
#[derive(Clone, Debug, Default)]
pub(super) struct Channels {
    parent: Vec<usize>,
    /// The finest scale that a channel's weights have room for, less the median of its product's.
    finest: Vec<i32>,
}

/// A product's channels.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// The sets that they are in.
    pub sets: Vec<usize>,
    /// Median of the finest scales.
    median: i32,
}

impl Channels {
    /// Adds a product whose weights have room for these scales.
    pub(super) fn product(&mut self, finest: &[i32]) -> Lanes {
        let mut sorted = finest.to_vec();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let first = self.parent.len();
        self.parent.extend(first..first + finest.len());
        self.finest.extend(finest.iter().map(|s| s - median));
        Lanes { sets: (first..first + finest.len()).collect(), median }
    }

    fn root(&mut self, mut set: usize) -> usize {
        while self.parent[set] != set {
            self.parent[set] = self.parent[self.parent[set]];
            set = self.parent[set];
        }
        set
    }

    /// Ties two channels.
    pub(super) fn tie(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let finest = self.finest[a].min(self.finest[b]);
        self.parent[b] = a;
        self.finest[a] = finest;
    }

    /// Ties all of these.
    pub(super) fn tie_all(&mut self, sets: &[usize]) {
        for pair in sets.windows(2) {
            self.tie(pair[0], pair[1]);
        }
    }

    /// The scales of a product's weights, when all is tied that has to be.
    pub(super) fn scales(&mut self, lanes: &Lanes) -> Vec<i32> {
        let of = |&set: &usize| {
            let root = self.root(set);
            self.finest[root] + lanes.median
        };
        lanes.sets.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tied_channels_differ_by_one_power_of_two() {
        let mut channels = Channels::default();
        let a = channels.product(&[10, 12, 11]);
        let b = channels.product(&[3, 3, 5]);
        assert_eq!(channels.scales(&a), [10, 12, 11]);
        for (&a, &b) in a.sets.iter().zip(&b.sets) {
            channels.tie(a, b);
        }
        // Medians 11 and 3: what is in common is min(-1, 0), min(1, 0), min(0, 2).
        assert_eq!((channels.scales(&a), channels.scales(&b)), (vec![10, 11, 11], vec![2, 3, 3]));
        channels.tie_all(&a.sets[..2]);
        assert_eq!(channels.scales(&b), [2, 2, 3]);
    }
}
