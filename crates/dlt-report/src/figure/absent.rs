//! Takes the place of `figure` in a program without the feature `figures`: nothing is drawn, and
//! every function says so.
#![cfg_attr(
    all(test, feature = "figures"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "tests have the figures too")
)]

use std::path::Path;

use dlt_spec::NotBuilt;
use dlt_state::State;

pub use crate::correlation::CorrelationPanel;
use crate::error::{ReportError, Result};
use crate::run::Run;

/// A figure. There is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Figure {}

impl Figure {
    /// The whole document.
    #[must_use]
    pub fn svg(&self) -> &str {
        match *self {}
    }

    /// What it shows, in a few words.
    #[must_use]
    pub fn title(&self) -> &str {
        match *self {}
    }

    /// A description for people who do not see the figure.
    #[must_use]
    pub fn alt(&self) -> &str {
        match *self {}
    }

    /// The figure as a PNG.
    ///
    /// # Errors
    /// None.
    pub fn png(&self) -> Result<Vec<u8>> {
        match *self {}
    }

    /// The figure as an element of an HTML page.
    #[must_use]
    pub fn for_page(&self) -> String {
        match *self {}
    }
}

/// The data of a figure of perplexity against block parameters. There are none.
#[derive(Clone, Debug, PartialEq)]
pub enum Tradeoff {}

impl Tradeoff {
    /// Refuses to read a file of points, which only a figure needs.
    ///
    /// # Errors
    /// [`ReportError::NotBuilt`], always.
    pub fn read(path: &Path) -> Result<Self> {
        refused(&path.display().to_string())
    }
}

/// Draws `tradeoff`, in a program that has it.
///
/// # Errors
/// None, because there is nothing to draw.
pub fn tradeoff(of: &Tradeoff) -> Result<Figure> {
    match *of {}
}

/// Functions of `figure`, each with what it would draw.
macro_rules! absent {
    ($($name:ident($($argument:ty),+): $what:literal;)+) => {
        $(
            #[doc = concat!("Refuses to draw ", $what, ".")]
            ///
            /// # Errors
            /// [`ReportError::NotBuilt`], always.
            pub fn $name($(_: $argument),+) -> Result<Figure> {
                refused($what)
            }
        )+
    };
}

absent! {
    agent(&Run): "the agent";
    correlations(&str, &[CorrelationPanel<'_>]): "correlations";
    events(&Run): "events";
    loss(&[&Run]): "losses";
    memory(&[&Run]): "memory";
    replication_map(&State, &str): "the replication map";
    state_strip(&Run): "the states";
    steps_independent(&Run): "independent layers";
    walk(&Run): "the walk";
}

fn refused<T>(what: &str) -> Result<T> {
    let what = format!("cannot draw {what}");
    Err(ReportError::NotBuilt(NotBuilt { what, feature: "figures" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_refused_with_the_feature_that_draws_it() {
        let error = loss(&[]).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "cannot draw losses: this program was built without the feature `figures`"
            ),
            "{error}"
        );
        assert!(Tradeoff::read(Path::new("points.json")).is_err());
    }
}
