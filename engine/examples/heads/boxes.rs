//! From the 18,000 numbers to heads: what the client does in the clear.
//!
//! Each cell of four grids has a prior box. Softmax of its two confidences gives the probability of a head, its four numbers of
//! place move and stretch the prior. Of boxes that overlap, the most probable stays.

/// A head that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Left, top, right, bottom in pixels.
    pub(crate) corners: [f64; 4],
    /// Probability.
    pub(crate) probability: f64,
}

/// Cells down and across, distance of cells and size of the prior in pixels.
const GRIDS: [([usize; 2], f64, f64); 4] =
    [([30, 40], 8.0, 8.0), ([30, 40], 8.0, 16.0), ([15, 20], 16.0, 32.0), ([15, 20], 16.0, 48.0)];

/// Boxes less probable than that are not looked at.
const CANDIDATE: f64 = 0.05;
/// Boxes that overlap a better one by more, as the ratio of intersection and union, are dropped.
const OVERLAP: f64 = 0.3;
/// Boxes at least that probable are heads.
const KEEP: f64 = 0.45;

/// Intersection over union.
fn overlap(a: &Found, b: &Found) -> f64 {
    let extent =
        |axis: usize| (a.corners[axis + 2].min(b.corners[axis + 2]) - a.corners[axis].max(b.corners[axis])).max(0.0);
    let area = |x: &Found| (x.corners[2] - x.corners[0]) * (x.corners[3] - x.corners[1]);
    let common = extent(0) * extent(1);
    common / (area(a) + area(b) - common)
}

/// The heads of an output: 6,000 pairs of confidences, then 6,000 places of four numbers, at scale 12.
pub(crate) fn heads(output: &[i64]) -> Vec<Found> {
    let value = |i: usize| output[i] as f64 / 4096.0;
    let cells = GRIDS.iter().flat_map(|&([rows, columns], step, size)| {
        (0..rows).flat_map(move |i| (0..columns).map(move |j| ([j, i].map(|at| (at as f64 + 0.5) * step), size)))
    });
    let places_start = 2 * GRIDS.iter().map(|(grid, ..)| grid[0] * grid[1]).sum::<usize>();
    let candidate = |(cell, (centre, size)): (usize, ([f64; 2], f64))| {
        let probability = 1.0 / (1.0 + (value(2 * cell) - value(2 * cell + 1)).exp());
        let place = places_start + 4 * cell;
        let centre = [0, 1].map(|axis| centre[axis] + 0.1 * value(place + axis) * size);
        let half = [0, 1].map(|axis| size * (0.2 * value(place + 2 + axis)).exp() / 2.0);
        let [x, y] = centre;
        Found { corners: [x - half[0], y - half[1], x + half[0], y + half[1]], probability }
    };
    let mut candidates: Vec<Found> =
        cells.enumerate().map(candidate).filter(|found| found.probability > CANDIDATE).collect();
    candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let mut kept: Vec<Found> = Vec::new();
    for found in candidates {
        if kept.iter().all(|better| overlap(better, &found) <= OVERLAP) {
            kept.push(found);
        }
    }
    kept.retain(|found| found.probability >= KEEP);
    kept
}
