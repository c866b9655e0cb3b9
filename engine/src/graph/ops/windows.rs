//! Windows over images and series: of convolutions, pooling and patches.

/// Windows over an image `[height, width, channels]` or a series `[length, channels]`. A series is treated as an image of width 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Height and width of the image.
    pub image: [usize; 2],
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of a window, in taps.
    pub size: [usize; 2],
    /// Distance of windows.
    pub stride: [usize; 2],
    /// Distance of taps.
    pub dilation: [usize; 2],
    /// Padding before and after.
    pub padding: [[usize; 2]; 2],
    /// Windows down and across.
    pub output: [usize; 2],
    /// Number of spatial axes: 1 or 2.
    pub axes: usize,
}

impl Windows {
    /// Windows of `size` over a value of `shape`. Empty lists are the defaults: `stride`, taps side by side, no padding.
    ///
    /// # Errors
    /// Parameters that are not one per spatial axis, or leave no window.
    pub fn new(
        shape: &[usize],
        size: &[usize],
        stride: &[usize],
        dilation: &[usize],
        padding: &[[usize; 2]],
    ) -> Result<Self, String> {
        let axes = size.len();
        if !(1..=2).contains(&axes) || shape.len() != axes + 1 {
            return Err(format!(
                "windows of size {size:?} over the shape {shape:?}: [length, channels] or [height, width, channels] is expected"
            ));
        }
        let per_axis = |what: &str, list: &[usize]| match list.len() {
            0 => Ok([1, 1]),
            n if n != axes => Err(format!("{what} {list:?} for {axes} spatial axes")),
            _ if list.contains(&0) => Err(format!("{what} {list:?} with a zero")),
            _ => Ok([list[0], list.get(1).copied().unwrap_or(1)]),
        };
        if !padding.is_empty() && padding.len() != axes {
            return Err(format!("padding {padding:?} for {axes} spatial axes"));
        }
        let pad = |axis: usize| padding.get(axis).copied().unwrap_or([0, 0]);
        let mut windows = Self {
            image: [shape[0], if axes == 2 { shape[1] } else { 1 }],
            channels: shape[axes],
            size: per_axis("size", size)?,
            stride: per_axis("stride", stride)?,
            dilation: per_axis("dilation", dilation)?,
            padding: [pad(0), pad(1)],
            output: [0, 0],
            axes,
        };
        for axis in 0..2 {
            let extent = (windows.size[axis] - 1).checked_mul(windows.dilation[axis]).and_then(|n| n.checked_add(1));
            let [before, after] = windows.padding[axis];
            let padded = windows.image[axis].checked_add(before).and_then(|n| n.checked_add(after));
            let rest = padded.zip(extent).and_then(|(padded, extent)| padded.checked_sub(extent));
            let Some(rest) = rest else {
                return Err(format!(
                    "windows of size {size:?} do not fit the shape {shape:?} with padding {padding:?}"
                ));
            };
            windows.output[axis] = rest / windows.stride[axis] + 1;
        }
        Ok(windows)
    }

    /// Shape of one value per window and channel of `channels`.
    pub fn shape(&self, channels: usize) -> Vec<usize> {
        self.output[..self.axes].iter().copied().chain([channels]).collect()
    }

    /// Whether every window consists of one place of the first axis, and there is one window for each.
    pub fn keeps_first_axis(&self) -> bool {
        self.size[0] == 1 && self.stride[0] == 1 && self.padding[0] == [0, 0]
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        self.size[0].saturating_mul(self.size[1])
    }

    /// For each window, row by row, and each tap, row by row: the index of its place's first channel; none in the padding.
    pub fn places(&self) -> impl Iterator<Item = impl Iterator<Item = Option<usize>> + '_> + '_ {
        let at = move |axis: usize, window: usize, tap: usize| {
            let place = window * self.stride[axis] + tap * self.dilation[axis];
            place.checked_sub(self.padding[axis][0]).filter(|&place| place < self.image[axis])
        };
        let windows = (0..self.output[0]).flat_map(|y| (0..self.output[1]).map(move |x| (y, x)));
        windows.map(move |(y, x)| {
            (0..self.size[0]).flat_map(move |i| {
                (0..self.size[1]).map(move |j| {
                    let (row, column) = (at(0, y, i)?, at(1, x, j)?);
                    Some((row * self.image[1] + column) * self.channels)
                })
            })
        })
    }
}
