//! Colours and marks that all figures share, told apart by colour-blind eyes too.

use plotters::style::RGBColor;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

/// Text, axes and outlines.
pub const INK: &str = "#1B1F24";
/// Text and marks of the second rank.
pub const MUTED: &str = "#626C77";
/// Grid lines, and cells without a value.
pub const GRID: &str = "#DCE1E6";
/// What everything is drawn on.
pub const GROUND: &str = "#FFFFFF";

/// Okabe and Ito's colours, but for black, which is [`INK`], and yellow, which nobody sees on
/// white.
pub const SERIES: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/// The colours that a page may replace, each with the name of the CSS variable that
/// [`Figure::for_page`] writes for it. Shades of heat maps and the text on them are not among them:
/// they mean the same on any ground.
///
/// [`Figure::for_page`]: crate::figure::Figure::for_page
pub const PAGE_COLOURS: &[(&str, &str)] = &[
    (INK, "--ink"),
    (MUTED, "--muted"),
    (GRID, "--grid"),
    (GROUND, "--ground"),
    (SERIES[0], "--series-1"),
    (SERIES[1], "--series-2"),
    (SERIES[2], "--series-3"),
    (SERIES[3], "--series-4"),
    (SERIES[4], "--series-5"),
    (SERIES[5], "--series-6"),
];

/// What stands on a light shade of a heat map; not replaced on a page.
pub(super) const ON_LIGHT: &str = "#101010";
/// What stands on a dark shade of a heat map; not replaced on a page.
pub(super) const ON_DARK: &str = "#FAFAFA";

/// The colour of a series, from 0. After the last colour they begin anew: their marks tell such
/// series apart.
#[must_use]
pub fn series(index: usize) -> &'static str {
    SERIES[index % SERIES.len()]
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
}

impl Mark {
    /// That of a series, from 0.
    pub(super) fn of(series: usize) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Diamond][series % 4]
    }
}

/// A shade of viridis, for a share from 0 to 1.
pub(super) fn shade(share: f64) -> RGBColor {
    ViridisRGB.get_color(share.clamp(0.0, 1.0))
}

/// What is read well on a shade.
pub(super) fn on(shade: RGBColor) -> &'static str {
    let RGBColor(red, green, blue) = shade;
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 128.0 { ON_LIGHT } else { ON_DARK }
}

/// A colour of this module as plotters takes it.
pub(super) fn rgb(hex: &str) -> RGBColor {
    let number = u32::from_str_radix(hex.trim_start_matches('#'), 16).unwrap_or_default();
    let [_, red, green, blue] = number.to_be_bytes();
    RGBColor(red, green, blue)
}
