//! The sheet that a figure is drawn on: its title, its legend, and the document around the output
//! of plotters.

use std::fmt::Write;

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, ShapeStyle, TextStyle};

use super::Figure;
use super::palette::{GROUND, INK, MUTED, Mark, on, rgb, series, shade};
use super::shape::{Placed, Shape};
use crate::error::{ReportError, Result};

/// The first line of a document.
pub(super) const XML_HEADER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
/// Width of most figures, in pixels.
pub(super) const WIDTH: f64 = 800.0;
/// Size of a title, in pixels.
pub(super) const TITLE: f64 = 20.0;
/// Size of all other text, in pixels. It is legible if the figure is shown at half its size.
pub(super) const TEXT: f64 = 16.0;
/// Space at the left of the title and the legend, in pixels.
pub(super) const MARGIN: f64 = 16.0;

/// Units per pixel, because plotters rounds to whole units.
const FINE: f64 = 10.0;
/// plotters divides the size of a font by this before it writes it.
const FONT_FACTOR: f64 = 1.24;
const LEGEND_ROW: f64 = 26.0;
const SWATCH: f64 = 30.0;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// Units of plotters for a length in pixels.
pub(super) fn px(pixels: f64) -> i32 {
    (pixels * FINE).round() as i32
}

/// A line's style.
pub(super) fn stroke(colour: &str, opacity: f64, width: f64) -> ShapeStyle {
    rgb(colour).mix(opacity).stroke_width(px(width).unsigned_abs())
}

/// A surface's style.
pub(super) fn filled(colour: &str) -> ShapeStyle {
    rgb(colour).filled()
}

/// Text of a size in pixels.
pub(super) fn text(size: f64, colour: &str, anchor: HPos) -> TextStyle<'static> {
    let font = ("sans-serif", size * FINE * FONT_FACTOR).into_font();
    font.color(&rgb(colour)).pos(Pos::new(anchor, VPos::Center))
}

/// Largest width of a text in common fonts, in pixels: an estimate on the safe side.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let share = |character: char| match character {
        ' ' | 'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | ';' | '(' | ')' | '-' | '|' => {
            0.42
        }
        'm' | 'w' | 'M' | 'W' => 0.98,
        other if other.is_uppercase() => 0.74,
        _ => 0.64,
    };

    size * text.chars().map(share).sum::<f64>()
}

/// A text cut to a width, in pixels.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }

    let kept = (width / text_width("m", size)) as usize;
    let mut cut: String = text.chars().take(kept.saturating_sub(1)).collect();
    cut.push('…');

    cut
}

/// The mark before a word of the legend.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    /// A line.
    Line { colour: &'static str, opacity: f64, width: f64 },
    /// A line with points.
    Marked { colour: &'static str, mark: Mark },
    /// A point.
    Point { colour: &'static str, mark: Mark },
    /// A filled bar.
    Bar { colour: &'static str },
    /// A bar that is only outlined.
    Outline { colour: &'static str },
    /// A field of a heat map with a line through it; `share` gives its shade.
    Struck { share: f64 },
    /// A short vertical line.
    Tick { colour: &'static str },
}

impl Key {
    /// The line with points of a series, from 0.
    pub(super) fn series(index: usize) -> Self {
        Self::Marked { colour: series(index), mark: Mark::of(index) }
    }

    /// Its shapes around the middle of the swatch.
    fn shapes(self) -> Vec<Shape> {
        let half = px(SWATCH / 2.0);
        let line = |colour: &str, opacity, width| {
            Shape::Line(vec![(-half, 0), (half, 0)], stroke(colour, opacity, width))
        };
        let field = [(px(-9.0), px(-7.0)), (px(9.0), px(7.0))];

        match self {
            Self::Line { colour, opacity, width } => vec![line(colour, opacity, width)],
            Self::Marked { colour, mark } => std::iter::once(line(colour, 1.0, 2.5))
                .chain(Shape::point(mark, 4.5, colour))
                .collect(),
            Self::Point { colour, mark } => Shape::point(mark, 4.5, colour).into(),
            Self::Bar { colour } => vec![Shape::Rectangle(field, filled(colour))],
            Self::Outline { colour } => vec![Shape::outline(field, colour)],
            Self::Struck { share } => {
                let colour = shade(share);
                let line = Shape::Line(
                    vec![(field[0].0, 0), (field[1].0, 0)],
                    stroke(on(colour), 1.0, 3.0),
                );
                vec![Shape::Rectangle(field, colour.filled()), line]
            }
            Self::Tick { colour } => {
                vec![Shape::Line(vec![(0, px(-7.0)), (0, px(7.0))], stroke(colour, 1.0, 2.0))]
            }
        }
    }

    /// Whether it explains a kind of mark, not a series.
    fn is_general(self) -> bool {
        match self {
            Self::Line { colour, .. }
            | Self::Marked { colour, .. }
            | Self::Point { colour, .. }
            | Self::Bar { colour }
            | Self::Outline { colour }
            | Self::Tick { colour } => colour == MUTED,
            Self::Struck { .. } => false,
        }
    }
}

/// A figure to be drawn.
pub(super) struct Sheet {
    /// What it shows, in a few words.
    pub(super) title: String,
    /// A description of the figure, in sentences.
    pub(super) alt: String,
    /// Keys and words of the legend.
    pub(super) legend: Vec<(Key, String)>,
    /// Height below title and legend, in pixels.
    pub(super) height: f64,
}

impl Sheet {
    /// Draws the figure: `draw` gets the area below title and legend.
    ///
    /// # Errors
    /// [`ReportError::Picture`] if plotters has no space for something.
    pub(super) fn draw(self, draw: impl FnOnce(&Area) -> Drawn) -> Result<Figure> {
        let (places, rows) = self.places();
        let head = MARGIN + 1.5 * TITLE + rows as f64 * LEGEND_ROW;
        let size = (px(WIDTH).unsigned_abs(), px(head + self.height).unsigned_abs());
        let mut written = String::new();

        let drawn = {
            let root = SVGBackend::with_string(&mut written, size).into_drawing_area();
            let (top, body) = root.split_vertically(px(head));
            self.heading(&top, &places).and_then(|()| draw(&body)).and_then(|()| root.present())
        };

        drawn.map_err(|error| ReportError::Picture {
            title: self.title.clone(),
            reason: error.to_string(),
        })?;

        // The document writes its own first line, with title and description.
        let body = written.split_once('\n').map_or("", |(_, body)| body);
        let body = body.trim_end().trim_end_matches("</svg>");
        Ok(document(self.title, self.alt, [WIDTH, head + self.height], FINE, body))
    }

    /// The place of each word of the legend, in pixels from the left and in rows; and the number of
    /// rows.
    fn places(&self) -> (Vec<(f64, usize)>, usize) {
        let mut x = MARGIN;
        let mut row = 0;
        let mut places = Vec::new();

        for (_, word) in &self.legend {
            let width = SWATCH + 8.0 + text_width(word, TEXT) + 18.0;
            if x > MARGIN && x + width > WIDTH {
                x = MARGIN;
                row += 1;
            }

            places.push((x, row));
            x += width;
        }

        (places, if self.legend.is_empty() { 0 } else { row + 1 })
    }

    fn heading(&self, area: &Area, places: &[(f64, usize)]) -> Drawn {
        let mut style = text(TITLE, INK, HPos::Left);
        style.font = style.font.style(FontStyle::Bold);

        let title = fitted(&self.title, 1.08 * TITLE, WIDTH - 2.0 * MARGIN);
        put(area, [MARGIN, MARGIN + TITLE / 2.0], Shape::Text(title, style))?;

        for ((key, word), &(x, row)) in self.legend.iter().zip(places) {
            let middle = MARGIN + 1.5 * TITLE + (row as f64 + 0.5) * LEGEND_ROW;
            for shape in key.shapes() {
                put(area, [x + SWATCH / 2.0, middle], shape)?;
            }

            let word = fitted(word, TEXT, WIDTH - x - SWATCH - 8.0);
            let style = text(TEXT, if key.is_general() { MUTED } else { INK }, HPos::Left);
            put(area, [x + SWATCH + 8.0, middle], Shape::Text(word, style))?;
        }

        Ok(())
    }
}

/// Draws a shape at a place of an area, in pixels from its upper left corner.
pub(super) fn put(area: &Area, [x, y]: [f64; 2], shape: Shape) -> Drawn {
    area.draw(&Placed { at: (px(x), px(y)), shape })
}

/// A whole document around its elements. `size` is in pixels; a pixel has `units` of the elements.
pub(super) fn document(
    title: String,
    alt: String,
    size: [f64; 2],
    units: f64,
    body: &str,
) -> Figure {
    let [width, height] = size.map(f64::round);
    let mut svg = String::from(XML_HEADER);
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {0} {1}\" role=\"img\" font-family=\"sans-serif\" \
         stroke-linejoin=\"round\">\n<title>{2}</title>\n\
         <desc>{3}</desc>\n<rect width=\"{0}\" height=\"{1}\" fill=\"{GROUND}\"/>\n{body}</svg>\n",
        width * units,
        height * units,
        escaped(&title),
        escaped(&alt),
    );

    Figure { svg, title, alt }
}

/// A text for XML, without control characters, which XML does not allow.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars().filter(|character| !character.is_control()) {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }

    escaped
}
