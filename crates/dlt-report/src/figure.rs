//! Figures of runs as SVG documents: those of the paper and some of our own.
//!
//! Figures with axes are drawn with plotters. Without a font it only estimates the size of text.
//! Nothing here depends on that estimate: `sheet` and `axes` compute the places of labels and
//! legends, and text is anchored. plotters draws on whole units, so a sheet has ten of them per
//! pixel. It has no arcs, and polylines instead of arcs would be neither smooth nor small, so only
//! the replication map is written element by element.
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
pub use correlations::correlations;
pub use events::events;
pub use independence::steps_independent;
pub use loss::loss;
pub use memory::memory;
pub use palette::PAGE_COLOURS;
pub use replication::replication_map;
pub use strip::state_strip;
pub use tradeoff::{Series, Spot, Tradeoff, tradeoff};
pub use walk::walk;

pub use crate::correlation::CorrelationPanel;

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
    /// The whole document, for a file.
    #[must_use]
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// What it shows, in a few words.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// A description for people who do not see the figure.
    #[must_use]
    pub fn alt(&self) -> &str {
        &self.alt
    }

    /// The figure as a PNG, [`picture::SCALE`] times as large.
    ///
    /// # Errors
    /// [`ReportError::Picture`] if it cannot be rasterised.
    pub fn png(&self) -> Result<Vec<u8>> {
        picture::png(&self.svg)
            .map_err(|reason| ReportError::Picture { title: self.title.clone(), reason })
    }

    /// The figure as an element of an HTML page: without XML header and size. Its colours are the
    /// CSS variables of [`PAGE_COLOURS`], whose values the page sets.
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
