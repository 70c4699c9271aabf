//! The replication map (Fig. 1 of the paper) as a picture: an arc from each layer to the owner of its weights.

use std::fmt::Write;

use dlt_state::State;

/// Pixels between two layers.
const STEP: usize = 56;
/// Radius of a layer's mark, in pixels.
const RADIUS: usize = 13;
/// Space around the drawing, in pixels.
const MARGIN: usize = 40;

/// One colour a group, told apart by colour-blind eyes too (Okabe and Ito's palette), on a white ground.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Of layers that share with nobody.
const ALONE: &str = "#555555";

/// The map of a state as an SVG document.
pub(crate) fn svg(state: &State, title: &str) -> String {
    let n_layers = state.n_layers();
    let farthest = (0..n_layers).map(|layer| layer - state.owner(layer)).max().unwrap_or(0);
    let width = 2 * MARGIN + (n_layers - 1) * STEP;
    let base = MARGIN + 24 + farthest * STEP / 2;
    let height = base + MARGIN + 32;
    let x = |layer: usize| MARGIN + layer * STEP;
    let colours = colours(state);
    let mut svg = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"14\" text-anchor=\"middle\">\n\
         <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"{}\" y=\"26\" fill=\"#222222\">{title}</text>\n",
        width / 2,
        title = escaped(title),
    );
    for layer in (0..n_layers).filter(|&layer| !state.is_independent(layer)) {
        let owner = state.owner(layer);
        let radius = (layer - owner) * STEP / 2;
        let _ = writeln!(
            svg,
            "<path d=\"M{} {base} A{radius} {radius} 0 0 1 {} {base}\" fill=\"none\" stroke=\"{}\" \
             stroke-width=\"2.5\"/>",
            x(owner),
            x(layer),
            colours[owner],
        );
    }
    for layer in 0..n_layers {
        let colour = colours[state.owner(layer)];
        let fill = if state.is_independent(layer) { colour } else { "#ffffff" };
        let text = if state.is_independent(layer) { "#ffffff" } else { "#222222" };
        let _ = writeln!(
            svg,
            "<circle cx=\"{0}\" cy=\"{base}\" r=\"{RADIUS}\" fill=\"{fill}\" stroke=\"{colour}\" \
             stroke-width=\"2.5\"/><text x=\"{0}\" y=\"{1}\" fill=\"{text}\" font-size=\"13\">{layer}</text>",
            x(layer),
            base + 5,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" fill=\"#222222\">filled: independent; hollow: uses the weights at the other \
         end of its arc</text>\n</svg>",
        width / 2,
        base + MARGIN + 12,
    );
    svg
}

/// The colour of each owner's group, in order of owners.
fn colours(state: &State) -> Vec<&'static str> {
    let mut colours = vec![ALONE; state.n_layers()];
    let shared = state.groups().into_iter().filter(|group| group.members.len() > 1);
    for (index, group) in shared.enumerate() {
        colours[group.owner] = COLOURS[index % COLOURS.len()];
    }
    colours
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_mark_a_layer_and_an_arc_a_tie() {
        let state = State::new(vec![0, 1, 0, 1, 4]).expect("a state");
        let svg = svg(&state, "a < b");
        assert_eq!(svg.matches("<circle").count(), 5);
        assert_eq!(svg.matches("<path").count(), 2);
        assert_eq!(svg.matches(ALONE).count(), 2, "layer 4 shares with nobody");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }
}
