//! Random choices from a source of Python's.

use dlt_state::Draw;
use pyo3::prelude::*;

use crate::error::refused;

/// The method `randrange` of the module `random`, or of an object like `random.Random`.
pub(crate) struct Source<'py> {
    randrange: Bound<'py, PyAny>,
    failure: Option<PyErr>,
}

impl Source<'_> {
    fn draw(&self, bound: usize) -> PyResult<usize> {
        let drawn: usize = self.randrange.call1((bound,))?.extract()?;
        if drawn < bound {
            Ok(drawn)
        } else {
            Err(refused(format!("expected a random number below {bound}, got {drawn}")))
        }
    }
}

impl Draw for Source<'_> {
    fn below(&mut self, bound: usize) -> usize {
        if self.failure.is_none() {
            match self.draw(bound) {
                Ok(drawn) => return drawn,
                Err(failure) => self.failure = Some(failure),
            }
        }

        // The result is thrown away. The greatest number ends every loop that draws again.
        bound - 1
    }
}

/// The result of `draw`, which draws from `source`: the module `random`, if none is given.
pub(crate) fn drawing<T>(
    py: Python<'_>,
    source: Option<&Bound<'_, PyAny>>,
    draw: impl FnOnce(&mut Source<'_>) -> T,
) -> PyResult<T> {
    let randrange = match source {
        Some(source) => source.getattr("randrange")?,
        None => py.import("random")?.getattr("randrange")?,
    };

    let mut source = Source { randrange, failure: None };
    let drawn = draw(&mut source);
    source.failure.map_or(Ok(drawn), Err)
}
