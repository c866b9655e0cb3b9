//! The parameters of the LPN assumption that Ferret stands on.
//!
//! Regular noise: `t` trees of `2^h` leaves, one noisy position per tree, a secret of `k` bits, a public matrix with ten
//! ones a row. What attackers can do with this is estimated in the tests below; `docs/ot.md` has the figures.

/// An instance of LPN with regular noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lpn {
    /// Noisy positions, one per tree.
    pub(super) trees: usize,
    /// Bits of a position.
    pub(super) height: usize,
    /// Secret length, a power of two.
    pub(super) secret: usize,
}

/// Larger sets take fewer bytes per COT, after a larger start.
// SECURITY: every one has 128 bits by all estimates in the tests. The secret is 128 times as long as a tree: the matrix
// is sparse, so that an attacker can solve for less than the whole secret, with little work for each trial.
const SETS: [Lpn; 3] = [
    Lpn { trees: 1600, height: 9, secret: 1 << 16 },
    Lpn { trees: 1600, height: 10, secret: 1 << 17 },
    Lpn { trees: 1600, height: 11, secret: 1 << 18 },
];

impl Lpn {
    /// The set for `n` COTs. Fewest bytes alone would change at 2.1 and 7.4 million; but a larger secret costs cache: what it saves
    /// has to be worth the time that reads of a larger table take.
    // AGREEMENT: both parties know the demand.
    pub(super) fn for_demand(n: u64) -> Self {
        let [small, medium, large] = SETS;
        match n {
            0..4_000_000 => small,
            4_000_000..14_000_000 => medium,
            _ => large,
        }
    }

    pub(super) fn leaves(self) -> usize {
        1 << self.height
    }

    /// COTs that a round starts from: rows of the secret, then those of the trees.
    pub(super) fn base(self) -> usize {
        self.secret + self.trees * self.height
    }

    /// Trees at the end of a round whose leaves become the base of the next one.
    pub(super) fn refill(self) -> usize {
        self.base().div_ceil(self.leaves())
    }

    /// Blocks of a tree's message.
    pub(super) fn message(self) -> usize {
        self.height - 1
    }
}

/// What it takes to break a set, by every attack we know that is better for some set than the others. The unit is a bit
/// operation, the answer its logarithm. Where a cost is disputed, the attacker gets the smaller one.
#[cfg(test)]
mod tests {
    use super::*;
    use sirnn_kernels::tree::WEIGHT;

    /// Matrix multiplication (Strassen); smaller exponents are not known to pay at these sizes.
    const OMEGA: f64 = 2.807;

    /// log2 of a binomial coefficient with a small lower index.
    fn log_choose(n: f64, r: u32) -> f64 {
        (0..r).map(|i| ((n - f64::from(i)) / f64::from(i + 1)).log2()).sum()
    }

    /// log2 of the probability that of `v` samples, evenly spread over the trees, `2 p` are noisy, `p` of them in either half
    /// of the trees.
    fn log_noise(lpn: Lpn, v: f64, p: u32) -> f64 {
        let (trees, leaves) = (lpn.trees as f64, lpn.leaves() as f64);
        let hit = v / trees / leaves;
        let (noisy, clean) = (f64::from(2 * p), trees - f64::from(2 * p));
        2.0 * log_choose(trees / 2.0, p) + noisy * hit.log2() + clean * (1.0 - hit).log2()
    }

    /// Take `v` equations in `v` unknowns for free of noise; solve them as sparse ones (Wiedemann): `2 v` products of the
    /// matrix with a vector.
    fn wiedemann(lpn: Lpn, v: f64) -> f64 {
        -log_noise(lpn, v, 0) + (2.0 * WEIGHT as f64 * v * v).log2()
    }

    /// Solve them as dense ones. Pooled elimination, which draws the equations anew from a pool, costs the same.
    fn elimination(lpn: Lpn, v: f64) -> f64 {
        -log_noise(lpn, v, 0) + OMEGA * v.log2()
    }

    /// Information-set decoding: allow for `p` noisy equations in either half of the trees and find them by a collision
    /// of two lists. A trial pays for its lists and for reading its inverse matrix once, as if that could be kept up to
    /// date from trial to trial for nothing: more than any published method does.
    fn decoding(lpn: Lpn, v: f64) -> f64 {
        let column = v / lpn.trees as f64;
        let trial = |p: u32| {
            let list = log_choose(lpn.trees as f64 / 2.0, p) + f64::from(p) * column.log2();
            let listing = if p == 0 { 0.0 } else { (list + 1.0 + (2.0 * list.max(1.0)).log2()).exp2() };
            -log_noise(lpn, v, p) + ((v * v) + listing).log2()
        };
        (0..8).map(trial).fold(f64::MAX, f64::min)
    }

    /// The share of the unknowns in a set that has as many equations of its own as unknowns, if the set is chosen at random.
    fn random_subset(lpn: Lpn) -> f64 {
        let density = (lpn.trees * lpn.leaves()) as f64 / lpn.secret as f64;
        density.powf(-1.0 / (WEIGHT as f64 - 1.0))
    }

    /// The share below which no such set exists, however long one looks: the expected number of sets, by the first moment and
    /// the large deviations of the number of equations inside, falls below one.
    fn least_subset(lpn: Lpn) -> f64 {
        let density = (lpn.trees * lpn.leaves()) as f64 / lpn.secret as f64;
        let excess = |x: f64| {
            let sets = -x * x.ln() - (1.0 - x) * (1.0 - x).ln();
            let mean = density * x.powi(WEIGHT as i32);
            if mean >= x { f64::MAX } else { sets - (x * (x / mean).ln() - x + mean) }
        };
        let (mut none, mut some) = (0.1, 0.99);
        for _ in 0..50 {
            let x = (none + some) / 2.0;
            *(if excess(x) < 0.0 { &mut none } else { &mut some }) = x;
        }
        none
    }

    /// Unknowns that are left, and equations among them, when the unknown in the fewest equations is taken away again and
    /// again until there are no more equations than unknowns.
    fn peel(secret: usize, equations: usize) -> usize {
        let mut words = vec![0u32; equations * WEIGHT];
        sirnn_kernels::aes::Prg::new(7).fill_words(32, &mut words);
        let rows: Vec<usize> = words.iter().map(|w| *w as usize % secret).collect();
        let mut of = vec![Vec::new(); secret];
        rows.iter().enumerate().for_each(|(at, &x)| of[x].push(at / WEIGHT));
        let mut degree: Vec<usize> = of.iter().map(Vec::len).collect();
        let mut queue = std::collections::BTreeSet::from_iter((0..secret).map(|x| (degree[x], x)));
        let mut dead = vec![false; equations];
        let mut alive = equations;
        while alive > queue.len() {
            let (_, x) = queue.pop_first().expect("equations need unknowns");
            for &row in &of[x] {
                if !std::mem::replace(&mut dead[row], true) {
                    alive -= 1;
                    for &y in &rows[row * WEIGHT..][..WEIGHT] {
                        if queue.remove(&(degree[y], y)) {
                            degree[y] -= 1;
                            queue.insert((degree[y], y));
                        }
                    }
                }
            }
        }
        queue.len()
    }

    /// The hybrid algebraic attack on regular noise (Briaud and Oygarden, EUROCRYPT 2023): guess `u` noise-free places in each
    /// of `f` trees, then linearise the quadratic equations of the trees at the degree at which the Hilbert series allows it.
    fn algebraic(lpn: Lpn) -> f64 {
        let (h, b) = (lpn.trees as i128, lpn.leaves() as i128);
        let choose = |n: i128, r: i128| (0..r).fold(1i128, |c, i| c * (n - i) / (i + 1));
        // Unknowns that are left, and whether degree `d` suffices.
        let series = |f: i128, u: i128, d: i128| {
            let unknowns = lpn.secret as i128 - h - f * u;
            if unknowns <= 0 {
                return (2, true);
            }
            let checks = f * (b - u - 1) + (h - f) * (b - 1) - unknowns;
            let product = |x: &[i128], y: &[i128]| -> Vec<i128> {
                (0..x.len()).map(|n| (0..=n).map(|i| x[i] * y[n - i]).sum()).collect()
            };
            let power = |n: i128, x: i128| (0..=d).map(|i| choose(n, i) * x.pow(i as u32)).collect::<Vec<_>>();
            let inverse: Vec<i128> = (0..=d).map(|i| choose(checks + i - 1, i) * (1 - 2 * (i % 2))).collect();
            let hilbert = product(&product(&power(f, b - u - 1), &power(h - f, b - 1)), &inverse);
            (unknowns, hilbert[1..].iter().any(|c| *c <= 0))
        };
        let mut best = f64::MAX;
        for d in 2..=5 {
            for f in (1..=10).map(|tenth| h * tenth / 10) {
                let (mut low, mut high) = (0, b - 2);
                if !series(f, high, d).1 {
                    continue;
                }
                while low < high {
                    let u = (low + high) / 2;
                    *(if series(f, u, d).1 { &mut high } else { &mut low }) = u + i128::from(!series(f, u, d).1);
                }
                let unknowns = series(f, low, d).0 as f64;
                let guess = -(f as f64) * (1.0 - low as f64 / b as f64).log2();
                let monomials = (0..=d as u32).map(|i| log_choose(unknowns, i).exp2()).sum::<f64>().log2();
                let dense = OMEGA * monomials;
                let sparse = 3f64.log2() + 2.0 * monomials + (unknowns * unknowns / 2.0).log2();
                best = best.min(guess + dense.min(sparse));
            }
        }
        best
    }

    /// Every estimate, by name.
    fn estimates(lpn: Lpn) -> Vec<(&'static str, f64)> {
        let secret = lpn.secret as f64;
        // The trees' sums are known: as many unknowns less.
        let whole = secret - lpn.trees as f64;
        let (random, least) = (random_subset(lpn) * secret, least_subset(lpn) * secret);
        vec![
            ("elimination", elimination(lpn, whole)),
            ("Wiedemann", wiedemann(lpn, whole)),
            ("decoding", decoding(lpn, whole)),
            ("Wiedemann, random subset", wiedemann(lpn, random)),
            ("decoding, random subset", decoding(lpn, random)),
            ("Wiedemann, least subset", wiedemann(lpn, least)),
            ("decoding, least subset", decoding(lpn, least)),
            ("algebraic", algebraic(lpn)),
        ]
    }

    #[test]
    fn every_set_has_128_bits() {
        for lpn in SETS {
            assert!(lpn.secret.is_power_of_two() && lpn.message() <= 16, "{lpn:?}");
            for (attack, bits) in estimates(lpn) {
                println!("{lpn:?} {attack} {bits:.1}");
                assert!(bits >= 128.0, "{lpn:?} {attack} {bits:.1}");
            }
        }
    }

    /// The sets of the first release, and one that only information-set decoding in a subset breaks.
    #[test]
    fn weaker_sets_fail() {
        let sets = [(850, 10, 1 << 16), (1170, 11, 1 << 17), (1520, 12, 1 << 18), (850, 10, 3 << 15)];
        for (trees, height, secret) in sets {
            let lpn = Lpn { trees, height, secret };
            assert!(estimates(lpn).iter().any(|(_, bits)| *bits < 120.0), "{lpn:?}");
        }
    }

    /// Peeling finds subsets, smaller than random ones and larger than the bound.
    #[test]
    fn no_subset_is_smaller_than_the_bound() {
        for lpn in SETS {
            let (secret, density) = (1 << 13, lpn.trees * lpn.leaves() / lpn.secret);
            let found = peel(secret, secret * density) as f64 / secret as f64;
            let (least, random) = (least_subset(lpn), random_subset(lpn));
            println!("{lpn:?} least {least:.3} peeled {found:.3} random {random:.3}");
            assert!(least < found && found < random, "{lpn:?} {least} {found} {random}");
        }
    }
}
