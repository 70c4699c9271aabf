//! The replication map (Fig. 1 of the paper): an arc from each layer to the owner of its weights.

use std::fmt::Write;

use dlt_state::State;

use super::Figure;
use super::palette::{GROUND, INK, MUTED, SERIES};
use super::sheet::{MARGIN, TEXT, TITLE, WIDTH, document, escaped, fitted, text_width};
use crate::error::{ReportError, Result};

/// Height of the highest arc, in pixels.
const HIGHEST: f64 = 330.0;
/// Space below the layers for loops, numbers, and the meaning of the marks, in pixels.
const BELOW: f64 = 118.0;
/// Largest number of layers of a map, which has at least 23 pixels for each.
const MOST_LAYERS: usize = 512;
/// If layers are at least this far apart, in pixels, their numbers are inside their marks.
const ROOMY: f64 = 40.0;
/// The text below the map.
const MEANING: &str =
    "filled, with a loop: uses its own weights · hollow: uses those at the other end of its arc";
/// Dashes that distinguish groups of the same colour, after the colours are used up.
const DASHES: [&str; 3] = ["", "9 4", "2 4"];

/// Places and colours of a map.
struct Layout<'a> {
    state: &'a State,
    width: f64,
    /// How much larger text is than in other figures. A wide map is shrunk to their width, and its
    /// text then has the same size.
    scale: f64,
    /// Distance between two layers.
    step: f64,
    radius: f64,
    /// Height of an arc divided by half its width.
    flatness: f64,
    /// Height of the layers, from the top.
    base: f64,
    /// Colour and dashes of each owner.
    looks: Vec<(&'static str, &'static str)>,
}

impl<'a> Layout<'a> {
    fn of(state: &'a State) -> Self {
        let n_layers = state.n_layers();
        let step = (1080.0 / n_layers as f64).clamp(23.0, 60.0);
        let farthest = (0..n_layers).map(|layer| layer - state.owner(layer)).max().unwrap_or(0);
        let widest = farthest as f64 * step / 2.0;
        let flatness = (HIGHEST / widest.max(1.0)).min(1.0);
        let mut looks = vec![(MUTED, ""); n_layers];

        let shared = state.groups().into_iter().filter(|group| group.members.len() > 1);
        for (index, group) in shared.enumerate() {
            let round = (index / SERIES.len()).min(DASHES.len() - 1);
            looks[group.owner] = (SERIES[index % SERIES.len()], DASHES[round]);
        }

        let width = (n_layers as f64 * step).max(text_width(MEANING, TEXT)) + 2.0 * MARGIN;
        let scale = (width / WIDTH).max(1.0);

        Self {
            state,
            width,
            scale,
            step,
            radius: (0.33 * step).min(15.0),
            flatness,
            base: MARGIN + 1.5 * TITLE * scale + 24.0 + widest * flatness,
            looks,
        }
    }

    fn x(&self, layer: usize) -> f64 {
        let n_layers = self.state.n_layers() as f64;
        self.width / 2.0 + (layer as f64 - (n_layers - 1.0) / 2.0) * self.step
    }

    fn is_roomy(&self) -> bool {
        self.step >= ROOMY
    }

    fn arcs(&self, svg: &mut String) {
        // The longest first, so that they do not cover short ones.
        let mut tied: Vec<_> =
            (0..self.state.n_layers()).filter(|&layer| !self.state.is_independent(layer)).collect();
        tied.sort_by_key(|&layer| std::cmp::Reverse(layer - self.state.owner(layer)));

        for layer in tied {
            let owner = self.state.owner(layer);
            let (colour, dashes) = self.looks[owner];
            let from = self.x(owner);
            let to = self.x(layer);
            let base = self.base;
            let across = (to - from) / 2.0;

            let up = (to - from) / 2.0 * self.flatness;
            // Writing into a string cannot fail.
            let _ = writeln!(
                svg,
                "<path class=\"arc\" d=\"M{from:.1} {base:.1} A{across:.1} {up:.1} 0 0 1 {to:.1} \
                 {base:.1}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.4\"{}/>",
                dashed(dashes)
            );
        }
    }

    /// The loop below an independent layer: it is connected to itself.
    fn own(&self, svg: &mut String, layer: usize) {
        let (colour, dashes) = self.looks[layer];
        let x = self.x(layer);
        let y = self.base + 0.5 * self.radius;
        let r = self.radius;
        let out = 2.5 * r;
        let down = 3.1 * r;

        let _ = writeln!(
            svg,
            "<path class=\"loop\" d=\"M{x:.1} {y:.1} C{:.1} {:.1} {:.1} {:.1} {x:.1} {y:.1}\" \
             fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.4\"{}/>",
            x - out,
            y + down,
            x + out,
            y + down,
            dashed(dashes)
        );
    }

    fn layers(&self, svg: &mut String) {
        for layer in 0..self.state.n_layers() {
            let is_independent = self.state.is_independent(layer);
            if is_independent {
                self.own(svg, layer);
            }

            let (colour, _) = self.looks[self.state.owner(layer)];
            let radius =
                if is_independent || self.is_roomy() { self.radius } else { 0.75 * self.radius };
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"{}\" \
                 stroke=\"{colour}\" stroke-width=\"2.4\"/>",
                self.x(layer),
                self.base,
                if is_independent { colour } else { GROUND },
            );
        }
    }

    /// Numbers of layers, inside the marks if these are large enough. Otherwise those of
    /// independent layers and of the last one are below, in up to three rows where they would
    /// touch.
    fn numbers(&self, svg: &mut String) {
        if self.is_roomy() {
            for layer in 0..self.state.n_layers() {
                let colour = if self.state.is_independent(layer) { GROUND } else { INK };
                words(svg, [self.x(layer), self.base], 15.0, colour, "middle", &layer.to_string());
            }

            return;
        }

        let size = TEXT * self.scale;
        // Right end of the last number in each row.
        let mut ends = [f64::NEG_INFINITY; 3];
        let last = self.state.n_layers() - 1;

        for layer in (0..=last).filter(|&layer| self.state.is_independent(layer) || layer == last) {
            let x = self.x(layer);
            let number = layer.to_string();
            let half = text_width(&number, size) / 2.0 + 3.0;
            let row = ends.iter().position(|end| x - half >= *end).unwrap_or(ends.len() - 1);

            ends[row] = x + half;
            let y = self.base + 3.2 * self.radius + (row as f64 + 0.5) * 1.15 * size;
            let colour = if self.state.is_independent(layer) { INK } else { MUTED };

            words(svg, [x, y], size, colour, "middle", &number);
        }
    }
}

fn dashed(dashes: &str) -> String {
    if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") }
}

/// A line of text around a height.
fn words(svg: &mut String, [x, y]: [f64; 2], size: f64, colour: &str, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" font-size=\"{size:.1}\" \
         fill=\"{colour}\">{}</text>",
        y + 0.36 * size,
        escaped(text)
    );
}

/// An arc from each layer to the owner of its weights. Independent layers are filled and connected
/// to themselves. Layers that share with no other layer have no colour.
///
/// # Errors
/// [`ReportError::Picture`] for more layers than a map can show.
pub fn replication_map(state: &State, title: &str) -> Result<Figure> {
    if state.n_layers() > MOST_LAYERS {
        let reason = format!("expected at most {MOST_LAYERS} layers, got {}", state.n_layers());
        return Err(ReportError::Picture { title: title.to_owned(), reason });
    }

    let layout = Layout::of(state);
    let mut svg = String::new();
    let title_size = TITLE * layout.scale;
    let text_size = TEXT * layout.scale;
    let shown = fitted(title, 1.08 * title_size, layout.width - 2.0 * MARGIN);

    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{:.1}\" font-size=\"{title_size:.1}\" font-weight=\"bold\" \
         fill=\"{INK}\">{}</text>",
        MARGIN + 0.86 * title_size,
        escaped(&shown)
    );
    layout.arcs(&mut svg);
    layout.layers(&mut svg);
    layout.numbers(&mut svg);

    let height = layout.base + BELOW * layout.scale;
    words(&mut svg, [MARGIN, height - 1.5 * text_size], text_size, MUTED, "start", MEANING);

    let owners: Vec<_> = state.independent_layers().map(|layer| layer.to_string()).collect();
    let alt = format!(
        "Map of {} layers. Independent: {}. Each other layer is joined by an arc to the one whose \
         weights it uses.",
        state.n_layers(),
        owners.join(", ")
    );

    Ok(document(title.to_owned(), alt, [layout.width, height], 1.0, &svg))
}
