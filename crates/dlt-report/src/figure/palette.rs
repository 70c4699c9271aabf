//! Colours and marks of all figures. Colour-blind people can distinguish them too.

use plotters::style::RGBColor;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

/// Text, axes and outlines.
pub const INK: &str = "#1B1F24";
/// Less important text and marks.
pub const MUTED: &str = "#626C77";
/// Grid lines, and cells without a value.
pub const GRID: &str = "#DCE1E6";
/// The background.
pub const GROUND: &str = "#FFFFFF";

/// Okabe and Ito's colours without black, which is [`INK`], and yellow, which is invisible on
/// white.
pub const SERIES: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/// The colours that a page may replace, each with the name of the CSS variable that
/// [`Figure::for_page`] writes for it. Shades of heat maps and the text on them are not among them,
/// because they mean the same on any background.
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

/// Text on a light shade of a heat map; not replaced on a page.
pub(super) const ON_LIGHT: &str = "#101010";
/// Text on a dark shade of a heat map; not replaced on a page.
pub(super) const ON_DARK: &str = "#FAFAFA";

/// The colour of a series, from 0. After the last colour they repeat; marks then distinguish the
/// series.
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
    /// The mark of a series, from 0. There are four marks and six colours, so 12 series differ.
    pub(super) fn of(series: usize) -> Self {
        [Self::Circle, Self::Square, Self::Triangle, Self::Diamond][series % 4]
    }
}

/// A shade of viridis, for a share from 0 to 1.
pub(super) fn shade(share: f64) -> RGBColor {
    ViridisRGB.get_color(share.clamp(0.0, 1.0))
}

/// The colour of text that is readable on a shade.
pub(super) fn on(shade: RGBColor) -> &'static str {
    let RGBColor(red, green, blue) = shade;
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 128.0 { ON_LIGHT } else { ON_DARK }
}

/// A colour of this module in the form that plotters needs.
pub(super) fn rgb(hex: &str) -> RGBColor {
    let number = u32::from_str_radix(hex.trim_start_matches('#'), 16).unwrap_or_default();
    let [_, red, green, blue] = number.to_be_bytes();
    RGBColor(red, green, blue)
}
