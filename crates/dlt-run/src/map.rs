//! The replication map (Fig. 1 of the paper) as text: an arc from each layer to the owner of its
//! weights.

use dlt_models::binding::Binding;
use dlt_state::State;

/// Space before the first layer.
const INDENT: &str = "    ";
/// Columns of a line of text.
const COLUMNS: usize = 100;
/// Most layers for which a map with four columns a layer fits a terminal.
const WIDE: usize = 20;

/// The role of a layer in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayerRole {
    /// It trains its own weights.
    Independent,
    /// It uses the weights of this layer.
    Tied(usize),
    /// It uses its own initial weights, untrained.
    Frozen,
}

/// The map of a state, with its legend and groups. Without a binding, no layer is shown as frozen.
#[must_use]
pub fn draw(state: &State, binding: Option<&Binding>) -> String {
    let is_frozen = |layer| binding.is_some_and(|binding: &Binding| binding.is_frozen(layer));
    let roles: Vec<LayerRole> = (0..state.n_layers())
        .map(|layer| match layer {
            _ if is_frozen(layer) => LayerRole::Frozen,
            _ if state.is_independent(layer) => LayerRole::Independent,
            _ => LayerRole::Tied(state.owner(layer)),
        })
        .collect();

    format!("{}\n{}\n{}", arcs(&roles), legend(&roles), groups(&roles))
}

/// One group of layers that share weights, in columns of the drawing.
struct Comb {
    /// The column of the owner, then those of the members, in rising order.
    columns: Vec<usize>,
    /// Height of its line, from 0.
    track: usize,
}

impl Comb {
    fn ends(&self) -> (usize, usize) {
        (self.columns[0], self.columns[self.columns.len() - 1])
    }
}

/// The arcs, the marks of the layers and their numbers.
fn arcs(roles: &[LayerRole]) -> String {
    let spacing = if roles.len() <= WIDE { 4 } else { 2 };
    let combs = combs(roles, spacing);
    let height = combs.iter().map(|comb| comb.track + 1).max().unwrap_or(0);
    let mut grid = vec![vec![' '; (roles.len() - 1) * spacing + 1]; height];

    for comb in &combs {
        let (first, last) = comb.ends();
        let line = &mut grid[height - 1 - comb.track];
        line[first..=last].fill('─');

        for &column in &comb.columns {
            line[column] = '┬';
        }
        (line[first], line[last]) = ('╭', '╮');
    }

    // The lines down from each arc to its layers, after all arcs: they have to cross lower arcs.
    for comb in &combs {
        for &column in &comb.columns {
            for line in &mut grid[height - comb.track..] {
                line[column] = if line[column] == '─' { '┼' } else { '│' };
            }
        }
    }

    let mut lines: Vec<String> = grid.into_iter().map(String::from_iter).collect();
    let marks = roles.iter().map(|role| match role {
        LayerRole::Independent => '●',
        LayerRole::Tied(_) => '○',
        LayerRole::Frozen => '◌',
    });

    let gap = " ".repeat(spacing - 1);
    lines.push(marks.map(String::from).collect::<Vec<_>>().join(&gap));
    lines.extend(labels(roles.len(), spacing));

    lines.iter().map(|line| format!("{INDENT}{}\n", line.trim_end())).collect()
}

/// Groups of at least two layers. Each is on the lowest line on which it meets no other; short ones
/// come first, so that long arcs pass over them.
fn combs(roles: &[LayerRole], spacing: usize) -> Vec<Comb> {
    let mut combs: Vec<Comb> = (0..roles.len())
        .map(|owner| {
            let members =
                (owner + 1..roles.len()).filter(|&layer| roles[layer] == LayerRole::Tied(owner));
            let columns = [owner].into_iter().chain(members).map(|layer| layer * spacing).collect();
            Comb { columns, track: 0 }
        })
        .filter(|comb| comb.columns.len() > 1)
        .collect();

    combs.sort_by_key(|comb| {
        let (first, last) = comb.ends();
        (last - first, first)
    });

    for index in 0..combs.len() {
        let (placed, rest) = combs.split_at_mut(index);
        let comb = &mut rest[0];
        let (first, last) = comb.ends();
        let meets = |other: &Comb| other.ends().0 <= last && first <= other.ends().1;

        while placed.iter().any(|other| other.track == comb.track && meets(other)) {
            comb.track += 1;
        }
    }

    combs
}

/// The numbers of the layers; in narrow maps their digits are written below each other.
fn labels(n_layers: usize, spacing: usize) -> Vec<String> {
    let most = (n_layers - 1).to_string().len();
    if spacing > most {
        return vec![(0..n_layers).map(|layer| format!("{layer:<spacing$}")).collect()];
    }

    (0..most)
        .map(|digit| {
            let label = |layer: usize| format!("{layer:>most$}").chars().nth(digit).unwrap_or(' ');
            (0..n_layers).map(|layer| format!("{:<spacing$}", label(layer))).collect()
        })
        .collect()
}

fn legend(roles: &[LayerRole]) -> String {
    let frozen = if roles.contains(&LayerRole::Frozen) {
        "   ◌ frozen: its own initial weights, untrained"
    } else {
        ""
    };

    format!(
        "{INDENT}● independent   ○ uses the weights of the ● at the left end of its line{frozen}\n"
    )
}

/// The groups of layers that share weights, as wrapped text.
fn groups(roles: &[LayerRole]) -> String {
    let independent = (0..roles.len()).filter(|&layer| roles[layer] == LayerRole::Independent);
    let groups: Vec<String> = independent
        .map(|owner| {
            let members = (owner..roles.len())
                .filter(|&layer| layer == owner || roles[layer] == LayerRole::Tied(owner))
                .map(|layer| layer.to_string());
            members.collect::<Vec<_>>().join(" ")
        })
        .collect();

    let noun = if groups.len() == 1 { "group" } else { "groups" };
    let frozen = roles.iter().filter(|&&role| role == LayerRole::Frozen).count();
    let frozen = if frozen > 0 { format!(", {frozen} frozen") } else { String::new() };

    wrapped(&format!("{} {noun}{frozen}:  {}", groups.len(), groups.join("  |  ")))
}

/// A text as indented lines of at most [`COLUMNS`] columns, broken between words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![INDENT.to_owned()];
    for word in text.split(' ') {
        match lines.last_mut().filter(|line| line.len() + word.len() < COLUMNS) {
            Some(line) => {
                line.push_str(word);
                line.push(' ');
            }
            None => lines.push(format!("{INDENT}  {word} ")),
        }
    }

    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(owners: &[usize]) -> Vec<String> {
        let state = State::new(owners.to_vec()).unwrap();
        draw(&state, None).lines().map(|line| line.trim_start_matches(INDENT).to_owned()).collect()
    }

    #[test]
    fn a_map_has_an_arc_for_each_group() {
        let lines = map(&[0, 1, 1, 0, 4]);
        let drawn = ["╭───────────╮", "│   ╭───╮   │", "●   ●   ○   ○   ●", "0   1   2   3   4"];
        assert_eq!(lines[..4], drawn);
        assert_eq!(lines.last().unwrap(), "3 groups:  0 3  |  1 2  |  4");
    }

    #[test]
    fn lines_that_cross_differ_from_lines_that_meet() {
        let lines = map(&[0, 1, 0, 1, 0]);
        let drawn = ["╭───────┬───────╮", "│   ╭───┼───╮   │", "●   ●   ○   ○   ○"];
        assert_eq!(lines[..3], drawn);
    }

    #[test]
    fn groups_side_by_side_share_a_line() {
        assert_eq!(map(&[0, 0, 2, 2])[0], "╭───╮   ╭───╮");
    }

    #[test]
    fn a_map_of_one_layer_has_no_arc() {
        assert_eq!(map(&[0])[..2], ["●", "0"]);
    }

    #[test]
    fn frozen_layers_have_no_arc() {
        let text = draw(&State::all_tied(3), Some(&Binding::frozen(3)));
        assert!(text.contains("●   ◌   ◌") && !text.contains('╭'), "{text}");
        assert!(text.contains("1 group, 2 frozen"), "{text}");
    }

    #[test]
    fn a_deep_map_stays_narrow() {
        let text = draw(&State::all_tied(48), None);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.lines().any(|line| line.trim_end().ends_with("7")), "{text}");
    }
}
