//! The image with the heads framed, as a PNG.

use crate::boxes::Found;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Colour of frames.
const FRAME: [u8; 3] = [255, 64, 32];
/// The image's numbers are half of grey values from which the mean of the training images was subtracted.
const MEAN: i64 = 115;

/// Writes an image of `height` x `width` numbers.
pub(crate) fn write(
    path: &Path,
    image: &[i64],
    [height, width]: [usize; 2],
    heads: &[Found],
) -> Result<(), Box<dyn Error>> {
    let grey = |&v: &i64| [(2 * v + MEAN).clamp(0, 255) as u8; 3];
    let mut pixels: Vec<[u8; 3]> = image.iter().map(grey).collect();
    for head in heads {
        let at = |v: f64, size: usize| (v.round().max(0.0) as usize).min(size - 1);
        let [left, right] = [0, 2].map(|i| at(head.corners[i], width));
        let [top, bottom] = [1, 3].map(|i| at(head.corners[i], height));
        for x in left..=right {
            pixels[top * width + x] = FRAME;
            pixels[bottom * width + x] = FRAME;
        }
        for y in top..=bottom {
            pixels[y * width + left] = FRAME;
            pixels[y * width + right] = FRAME;
        }
    }
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels.concat())?;
    writer.finish()?;
    Ok(())
}
