//! Slow versions of the definitions, written without the crate's algorithms.

/// All vectors with `v[i] <= i`, in lexicographic order: `L!` of them.
pub(crate) fn all_actions(n_layers: usize) -> Vec<Vec<usize>> {
    let mut actions = vec![vec![]];
    for layer in 0..n_layers {
        actions = actions
            .into_iter()
            .flat_map(|action| (0..=layer).map(move |value| [action.as_slice(), &[value]].concat()))
            .collect();
    }

    actions
}

/// All partitions, each with the least member of each layer's group. It does not use Eq. 1.
pub(crate) fn all_states(n_layers: usize) -> Vec<Vec<usize>> {
    let mut partitions: Vec<Vec<usize>> = vec![vec![]];
    for layer in 0..n_layers {
        partitions = partitions
            .into_iter()
            .flat_map(|owners| {
                let mut choices: Vec<usize> = owners.clone();
                choices.sort_unstable();
                choices.dedup();
                choices.push(layer);
                choices.into_iter().map(move |owner| [owners.as_slice(), &[owner]].concat())
            })
            .collect();
    }

    partitions
}

/// All orders of `0..n_layers`.
pub(crate) fn all_permutations(n_layers: usize) -> Vec<Vec<usize>> {
    let mut permutations: Vec<Vec<usize>> = vec![vec![]];
    for value in 0..n_layers {
        permutations = permutations
            .into_iter()
            .flat_map(|permutation| {
                (0..=value).map(move |place| {
                    let mut longer = permutation.clone();
                    longer.insert(place, value);
                    longer
                })
            })
            .collect();
    }

    permutations
}

/// Eq. 1: follows each layer's pointers until one points at itself.
pub(crate) fn follow(action: &[usize]) -> Vec<usize> {
    let end = |mut layer: usize| {
        while action[layer] != layer {
            layer = action[layer];
        }
        layer
    };

    (0..action.len()).map(end).collect()
}

/// Whether `owners` is a state: every entry is at most its index and names an owner of itself.
pub(crate) fn is_state(owners: &[usize]) -> bool {
    !owners.is_empty()
        && (0..owners.len())
            .all(|layer| owners[layer] <= layer && owners[owners[layer]] == owners[layer])
}
