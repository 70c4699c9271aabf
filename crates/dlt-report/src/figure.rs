//! Figures of runs as SVG documents: those of the paper and some of our own.
//!
//! What has axes is drawn with plotters, which lays text out by a rule of thumb where it has no
//! font: nothing here hangs on its guess, because places for labels and legends are reckoned in
//! `sheet` and `axes` and text is anchored. It draws on whole units, so a sheet has ten of them a
//! pixel. It has no arcs, and polylines in their place would be neither smooth nor small: the
//! replication map alone is written element by element.
//!
//! The same input gives the same bytes.

mod agent;
mod axes;
mod correlations;
mod events;
mod independence;
mod loss;
mod memory;
pub mod palette;
mod replication;
mod room;
mod shape;
mod sheet;
mod strip;
mod tradeoff;
mod walk;

pub use agent::agent;
pub use correlations::{CorrelationPanel, correlations};
pub use events::events;
pub use independence::steps_independent;
pub use loss::loss;
pub use memory::memory;
pub use palette::PAGE_COLOURS;
pub use replication::replication_map;
pub use strip::state_strip;
pub use tradeoff::{Series, Spot, Tradeoff, tradeoff};
pub use walk::walk;

use crate::error::{ReportError, Result};
use crate::picture;

/// A figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    svg: String,
    title: String,
    alt: String,
}

impl Figure {
    /// The document, for a file of its own.
    #[must_use]
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// What it shows, in a few words.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What is to be seen, for those who do not see it.
    #[must_use]
    pub fn alt(&self) -> &str {
        &self.alt
    }

    /// The figure as a PNG, [`picture::SCALE`] times as large.
    ///
    /// # Errors
    /// [`ReportError::Picture`] where it cannot be rasterised.
    pub fn png(&self) -> Result<Vec<u8>> {
        picture::png(&self.svg)
            .map_err(|reason| ReportError::Picture { title: self.title.clone(), reason })
    }

    /// The figure as an element of an HTML page: without the XML header and a size of its own, its
    /// colours those that the page gives to the variables of [`PAGE_COLOURS`].
    #[must_use]
    pub fn for_page(&self) -> String {
        let element = self.svg.strip_prefix(sheet::XML_HEADER).unwrap_or(&self.svg);
        let mut element = match (element.find(" width="), element.find(" viewBox=")) {
            (Some(from), Some(to)) if from < to => {
                format!("{}{}", &element[..from], &element[to..])
            }
            _ => element.to_owned(),
        };

        for (colour, variable) in PAGE_COLOURS {
            element = element.replace(&format!("\"{colour}\""), &format!("\"var({variable})\""));
        }

        element
    }
}
