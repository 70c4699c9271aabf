//! Shapes with a size in pixels at a point of a chart: points of series, ticks, outlines, words.

use std::iter::{Once, once};

use plotters::element::{Drawable, PointCollection};
use plotters::style::{ShapeStyle, TextStyle};
use plotters_backend::{BackendCoord, DrawingBackend, DrawingErrorKind};

use super::palette::{GROUND, Mark};
use super::sheet::{filled, px, stroke};

/// A shape around its place, in units of plotters.
pub(super) enum Shape {
    /// A line through points.
    Line(Vec<BackendCoord>, ShapeStyle),
    /// A filled polygon.
    Polygon(Vec<BackendCoord>, ShapeStyle),
    /// A filled rectangle between two corners.
    Rectangle([BackendCoord; 2], ShapeStyle),
    /// A filled circle.
    Circle(i32, ShapeStyle),
    /// A text.
    Text(String, TextStyle<'static>),
}

impl Shape {
    /// The inner edge of a rectangle, two pixels wide.
    pub(super) fn outline([(left, top), (right, bottom)]: [BackendCoord; 2], colour: &str) -> Self {
        let edge = px(1.0);
        let style = stroke(colour, 1.0, 2.0);
        let left = left + edge;
        let top = top + edge;
        let right = right - edge;
        let bottom = bottom - edge;
        Self::Line(
            vec![(left, bottom), (left, top), (right, top), (right, bottom), (left, bottom)],
            style,
        )
    }

    /// A point of a series, `radius` pixels large, with a rim in the colour of the background.
    pub(super) fn point(mark: Mark, radius: f64, colour: &str) -> [Self; 2] {
        let rim = Self::mark(mark, radius + 1.5, GROUND);
        [rim, Self::mark(mark, radius, colour)]
    }

    fn mark(mark: Mark, radius: f64, colour: &str) -> Self {
        let style = filled(colour);
        let r = px(radius);
        let polygon = |corners: &[(f64, f64)]| {
            Self::Polygon(
                corners.iter().map(|&(x, y)| (px(x * radius), px(y * radius))).collect(),
                style,
            )
        };

        match mark {
            Mark::Circle => Self::Circle(r, style),
            Mark::Square => Self::Rectangle([(-r, -r), (r, r)], style),
            Mark::Triangle => polygon(&[(0.0, -1.3), (1.2, 0.9), (-1.2, 0.9)]),
            Mark::Diamond => polygon(&[(0.0, -1.4), (1.4, 0.0), (0.0, 1.4), (-1.4, 0.0)]),
        }
    }
}

/// A shape at a point, in the coordinates of the chart.
pub(super) struct Placed<C> {
    pub(super) at: C,
    pub(super) shape: Shape,
}

impl<'p, C> PointCollection<'p, C> for &'p Placed<C> {
    type Point = &'p C;
    type IntoIter = Once<&'p C>;

    fn point_iter(self) -> Self::IntoIter {
        once(&self.at)
    }
}

impl<C, B: DrawingBackend> Drawable<B> for Placed<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut places: I,
        backend: &mut B,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let Some((x, y)) = places.next() else { return Ok(()) };
        let place = |&(right, down): &BackendCoord| (x + right, y + down);

        match &self.shape {
            Shape::Line(points, style) => backend.draw_path(points.iter().map(place), style),
            Shape::Polygon(corners, style) => {
                backend.fill_polygon(corners.iter().map(place), style)
            }
            Shape::Rectangle([a, b], style) => backend.draw_rect(place(a), place(b), style, true),
            Shape::Circle(radius, style) => {
                backend.draw_circle((x, y), radius.unsigned_abs(), style, true)
            }
            Shape::Text(text, style) => backend.draw_text(text, style, (x, y)),
        }
    }
}
