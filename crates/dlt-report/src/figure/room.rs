//! Words next to points, where there is room for them.

use plotters::style::text_anchor::HPos;

use super::axes::Chart;
use super::palette::INK;
use super::shape::Shape;
use super::sheet::{Drawn, TEXT, px, text, text_width};

/// Size of the words, in pixels.
const WORD: f64 = 0.75 * TEXT;
/// Radius of points, in pixels.
pub(super) const RADIUS: f64 = 4.5;

/// The parts of a chart that are occupied, in pixels.
#[derive(Default)]
pub(super) struct Room {
    points: Vec<[f64; 2]>,
    /// Left, top, right, bottom.
    words: Vec<[f64; 4]>,
}

impl Room {
    /// Notes a point that no word may cover.
    pub(super) fn take(&mut self, chart: &Chart, at: (f64, f64)) {
        self.points.push(pixels(chart, at));
    }

    /// Writes words at the first free side of a point; nowhere if none is free.
    pub(super) fn write(&mut self, chart: &mut Chart, at: (f64, f64), words: &str) -> Drawn {
        let width = text_width(words, WORD);
        let gap = RADIUS + 4.0;
        let [x, y] = pixels(chart, at);
        let sides = [
            [gap, 0.0],
            [-gap - width, 0.0],
            [-0.5 * width, -gap - 4.0],
            [-0.5 * width, gap + 6.0],
        ];

        let boxes = sides.map(|[right, down]| {
            [x + right, y + down - 0.6 * WORD, x + right + width, y + down + 0.6 * WORD]
        });

        let Some(side) = (0..sides.len()).find(|&side| self.is_free(boxes[side])) else {
            return Ok(());
        };

        self.words.push(boxes[side]);

        let [wide, high] = chart.pixel();
        let place = (at.0 + sides[side][0] * wide, at.1 - sides[side][1] * high);
        chart.put(place, Shape::Text(words.to_owned(), text(WORD, INK, HPos::Left)))
    }

    fn is_free(&self, [left, top, right, bottom]: [f64; 4]) -> bool {
        let meets = |other: &[f64; 4]| {
            left < other[2] && other[0] < right && top < other[3] && other[1] < bottom
        };
        let holds = |[x, y]: &[f64; 2]| {
            (left - RADIUS..right + RADIUS).contains(x)
                && (top - RADIUS..bottom + RADIUS).contains(y)
        };
        left >= 0.0 && top >= 0.0 && !self.words.iter().any(meets) && !self.points.iter().any(holds)
    }
}

/// A point of a chart in pixels from the upper left corner of the document.
fn pixels(chart: &Chart, at: (f64, f64)) -> [f64; 2] {
    let (x, y) = chart.place(at);
    [x, y].map(|one| f64::from(one) / f64::from(px(1.0)))
}
