//! The rows of the table.

use serde::Serialize;

use super::{Field, Values, toml_value, word};
use crate::spec::SPEC_SCHEMA;

/// One row. The key and the way to read it are made from the same path, so they cannot differ.
macro_rules! field {
    ($section:ident . $name:ident, $values:expr, $meaning:expr) => {
        Field::new(
            concat!(stringify!($section), ".", stringify!($name)),
            |spec| toml_value(&spec.$section.$name),
            $values,
            $meaning,
        )
    };
    ($name:ident, $values:expr, $meaning:expr) => {
        Field::new(stringify!($name), |spec| toml_value(&spec.$name), $values, $meaning)
    };
}

/// The values that are the words of an enum.
macro_rules! words {
    ($name:ident) => {
        Values::Word(|| words_of($name::ALL))
    };
}

mod data;
mod method;
mod model;
mod training;

use data::DATA;
use method::METHOD;
use model::MODEL;
use training::TRAINING;

/// Deeper models are refused: the Q-network grows with the square of the depth.
const MOST_LAYERS: usize = 4096;
/// The greatest size that fits every index type that a size passes through.
const MOST: usize = i32::MAX as usize;
/// The greatest whole number of TOML.
const MOST_OF_TOML: usize = i64::MAX as usize;

/// Every field of a spec, in the order of a spec file.
pub const FIELDS: &[Field] = &joined::<
    { WHOLE.len() + MODEL.len() + DATA.len() + TRAINING.len() + METHOD.len() },
>([WHOLE, MODEL, DATA, TRAINING, METHOD]);

/// The run as a whole.
const WHOLE: &[Field] = &[
    field!(
        schema,
        Values::Whole(SPEC_SCHEMA as usize, SPEC_SCHEMA as usize),
        "Version of the layout of this file."
    ),
    field!(name, Values::Name, "Name of the run; its folder is runs/NAME-SEED."),
    field!(seed, Values::Whole(0, MOST_OF_TOML), "Root seed of every random stream."),
];

/// The parts one after the other, with N fields in all. Iterators are not `const`, so the loops
/// count by hand.
const fn joined<const N: usize>(parts: [&[Field]; 5]) -> [Field; N] {
    let mut fields = [WHOLE[0]; N];
    let mut part = 0;
    let mut at = 0;
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            fields[at] = parts[part][index];
            at += 1;
            index += 1;
        }

        part += 1;
    }

    fields
}

/// The words of an enum, as they are written in a spec file.
fn words_of<T: Serialize>(all: &[T]) -> Vec<String> {
    all.iter().map(word).collect()
}
