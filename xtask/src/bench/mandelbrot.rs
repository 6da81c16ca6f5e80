//! Workload `mandelbrot`: iterations until escape, an item a row. Rows through the set cost far more than others.

use super::digest::Digest;
use crate::Error;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// What part of the plane is computed, and how finely: real part -2 to 1, imaginary part -1.2 to 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Points of a row.
    pub(crate) width: u32,
    /// Rows.
    pub(crate) height: u32,
    /// Iterations after which a point counts as inside the set.
    pub(crate) limit: u32,
}

/// Iterations of each point of a row, from 0 at the top.
pub(crate) fn row(view: View, row: u32) -> Vec<u32> {
    let imaginary = 1.2 - 2.4 * (f64::from(row) + 0.5) / f64::from(view.height);
    (0..view.width)
        .map(|column| {
            let real = 3.0 * (f64::from(column) + 0.5) / f64::from(view.width) - 2.0;
            iterations(real, imaginary, view.limit)
        })
        .collect()
}

fn iterations(real: f64, imaginary: f64, limit: u32) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    for iteration in 0..limit {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 4.0 {
            return iteration;
        }
        y = 2.0 * x * y + imaginary;
        x = xx - yy + real;
    }
    limit
}

pub(crate) fn digest(rows: &[Vec<u32>]) -> String {
    let mut digest = Digest::new();
    for row in rows {
        digest = digest.number(row.len() as u64);
        for count in row {
            digest = digest.bytes(&count.to_le_bytes());
        }
    }
    digest.hex()
}

/// Writes the picture, 8 bits of grey a point, the set in black.
///
/// # Errors
/// The file cannot be written, or the rows are not all of the view's width.
pub(crate) fn write_png(path: &Path, view: View, rows: &[Vec<u32>]) -> Result<(), Error> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), view.width, view.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let grey = |count: &u32| {
        // The logarithm spreads the low counts, where most points outside lie.
        let share = f64::from(*count).ln_1p() / f64::from(view.limit).ln_1p();
        if *count >= view.limit {
            0
        } else {
            (255.0 * (1.0 - share)) as u8
        }
    };
    let pixels: Vec<u8> = rows.iter().flatten().map(grey).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: View = View {
        width: 30,
        height: 20,
        limit: 50,
    };

    #[test]
    fn known_points() {
        assert_eq!(iterations(0.0, 0.0, 100), 100);
        assert_eq!(iterations(-1.0, 0.0, 100), 100);
        assert_eq!(iterations(2.0, 2.0, 100), 1);
        // 1: 0, 1, 2, 5: after three steps the modulus is above 2.
        assert_eq!(iterations(1.0, 0.0, 100), 3);
    }

    #[test]
    fn rows_are_unbalanced_and_mirrored() {
        let rows: Vec<Vec<u32>> = (0..VIEW.height).map(|index| row(VIEW, index)).collect();
        let cost = |index: usize| rows[index].iter().sum::<u32>();
        assert!(cost(10) > 3 * cost(0));
        // The set is symmetric about the real axis; so are the sampled rows.
        assert_eq!(rows[3], rows[16]);
        assert_ne!(digest(&rows), digest(&rows[1..]));
    }

    #[test]
    fn picture_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let rows: Vec<Vec<u32>> = (0..VIEW.height).map(|index| row(VIEW, index)).collect();
        write_png(&path, VIEW, &rows).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(File::open(&path).unwrap()))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, pixels.len()), (30, 20, 600));
        assert!(pixels.contains(&0) && pixels.iter().any(|&grey| grey > 100));
        assert!(write_png(&path, VIEW, &rows[1..]).is_err());
        assert!(write_png(&folder.path().join("none/a.png"), VIEW, &rows).is_err());
    }
}
