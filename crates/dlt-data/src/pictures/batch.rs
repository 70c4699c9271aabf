//! Pictures as numbers: cropped, flipped, resized, normalised.

use super::{CIFAR10_SIDE, PICTURE, Pictures, resizing::resized};
use crate::error::DataError;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mean of CIFAR-10's train split by channel, on a scale from 0 to 1.
pub const CIFAR10_MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];

/// Standard deviation of CIFAR-10's train split by channel, on a scale from 0 to 1.
pub const CIFAR10_STD: [f32; 3] = [0.2470, 0.2435, 0.2616];

/// Largest side that pictures are resized to.
const LARGEST_SIDE: usize = 1_024;

/// How pictures become numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureSettings {
    /// Width and height, S, in pixels. If S is not 32, pictures are resized by bilinear
    /// interpolation.
    pub side: usize,
    /// Subtracted from each channel, on a scale from 0 to 1.
    pub mean: [f32; 3],
    /// Each channel is then divided by this.
    pub std: [f32; 3],
    /// Width in pixels of a black border that is put around a picture before 32 x 32 pixels are cut
    /// out at random. 0 does not crop.
    pub crop: usize,
    /// Whether a picture is mirrored with probability one half.
    pub flip: bool,
}

impl PictureSettings {
    /// CIFAR-10 at its own size, normalised by its own mean and deviation, neither cropped nor
    /// flipped.
    #[must_use]
    pub fn own() -> Self {
        Self { side: CIFAR10_SIDE, mean: CIFAR10_MEAN, std: CIFAR10_STD, crop: 0, flip: false }
    }

    /// As the authors' code does: resized to 224, mean and deviation 0.5, neither cropped nor
    /// flipped.
    #[must_use]
    pub fn reference() -> Self {
        Self { side: 224, mean: [0.5; 3], std: [0.5; 3], crop: 0, flip: false }
    }
}

/// Whether pictures are changed at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augment {
    /// They are not changed, whatever the settings say: for validation and test.
    Never,
    /// They are cropped and flipped as the settings say. Draws depend only on the seed, the pass
    /// and the picture's index, so a resumed run draws the same.
    Drawn {
        /// Seed of the draws.
        seed: u64,
        /// Passes over the data so far.
        pass: u64,
    },
}

/// A batch of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureBatch {
    /// Normalised pixels, B x 3 x S x S.
    pub pixels: Vec<f32>,
    /// Classes, B.
    pub labels: Vec<u32>,
    /// Width and height, S.
    pub side: usize,
}

impl Pictures {
    /// These pictures as a batch.
    ///
    /// # Errors
    /// If there is no such picture or the settings are not valid.
    pub fn batch(
        &self,
        indices: &[usize],
        settings: &PictureSettings,
        augment: Augment,
    ) -> Result<PictureBatch, DataError> {
        check(settings)?;
        let side = settings.side;
        let mut batch = PictureBatch {
            pixels: Vec::with_capacity(indices.len() * 3 * side * side),
            labels: Vec::with_capacity(indices.len()),
            side,
        };

        for &index in indices {
            let count = self.len();
            let label = *self.labels.get(index).ok_or(DataError::BadPosition { index, count })?;
            batch.labels.push(u32::from(label));

            let picture = &self.pixels[index * PICTURE..(index + 1) * PICTURE];
            let drawn = match augment {
                Augment::Never => None,
                Augment::Drawn { seed, pass } => Some(Draw::new(settings, seed, pass, index)),
            };

            for (channel, bytes) in picture.chunks_exact(CIFAR10_SIDE * CIFAR10_SIDE).enumerate() {
                let changed = drawn.as_ref().map(|draw| draw.apply(bytes));
                let bytes = changed.as_deref().unwrap_or(bytes);
                let wide = (side != CIFAR10_SIDE).then(|| resized(bytes, CIFAR10_SIDE, side));
                let mean = settings.mean[channel];
                let std = settings.std[channel];
                let normal = |&byte: &u8| (f32::from(byte) / 255.0 - mean) / std;

                batch.pixels.extend(wide.as_deref().unwrap_or(bytes).iter().map(normal));
            }
        }

        Ok(batch)
    }
}

fn check(settings: &PictureSettings) -> Result<(), DataError> {
    let refused = |what: &'static str, expected: &str, got: String| {
        Err(DataError::BadSetting { what, expected: expected.to_owned(), got })
    };
    if !(1..=LARGEST_SIDE).contains(&settings.side) {
        return refused("side of pictures", "1 to 1,024 pixels", settings.side.to_string());
    }

    if settings.crop > CIFAR10_SIDE {
        return refused("crop of pictures", "0 to 32 pixels", settings.crop.to_string());
    }
    if !settings.std.iter().all(|std| std.is_finite() && *std > 0.0) {
        return refused("deviation of pictures", "numbers above 0", format!("{:?}", settings.std));
    }

    if !settings.mean.iter().all(|mean| mean.is_finite()) {
        return refused("mean of pictures", "finite numbers", format!("{:?}", settings.mean));
    }

    Ok(())
}

/// What was drawn for one picture.
struct Draw {
    /// Where the cut begins, relative to the picture without its border; may be negative.
    down: i64,
    across: i64,
    is_flipped: bool,
}

impl Draw {
    fn new(settings: &PictureSettings, seed: u64, pass: u64, index: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(pass.rotate_left(32) ^ index as u64);

        let crop = settings.crop as i64;
        let mut shift = || if crop == 0 { 0 } else { rng.random_range(-crop..=crop) };
        let down = shift();
        let across = shift();

        Self { down, across, is_flipped: settings.flip && rng.random_bool(0.5) }
    }

    fn apply(&self, channel: &[u8]) -> Vec<u8> {
        let side = CIFAR10_SIDE as i64;
        let inside = |at: i64| (0..side).contains(&at);
        let mut changed = Vec::with_capacity(channel.len());

        for row in 0..side {
            for column in 0..side {
                let column = if self.is_flipped { side - 1 - column } else { column };
                let from_row = row + self.down;
                let from_column = column + self.across;
                let is_inside = inside(from_row) && inside(from_column);

                changed.push(if is_inside {
                    channel[(from_row * side + from_column) as usize]
                } else {
                    0
                });
            }
        }

        changed
    }
}
