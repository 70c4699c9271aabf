//! The figures of a run, each with its title and its description.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::html::Html;
use crate::error::{ReportError, Result};
use crate::figure::{self, Figure};
use crate::numbers::whole;
use crate::run::Run;

/// Every figure of a single run, each with a name for a file.
pub fn figures(run: &Run) -> Vec<(&'static str, Result<Figure>)> {
    let mut figures = vec![("replication-map", map_of_now(run))];
    figures.extend(over_training(run));
    figures
}

fn over_training(run: &Run) -> [(&'static str, Result<Figure>); 6] {
    [
        ("loss", figure::loss(&[run])),
        ("states", figure::state_strip(run)),
        ("events", figure::events(run)),
        ("independent", figure::steps_independent(run)),
        ("agent", figure::agent(run)),
        ("memory", figure::memory(&[run])),
    ]
}

/// The figures of one run over training, and a list of those that cannot be shown.
pub(super) fn of_one(run: &Run) -> Html {
    let mut html = Html::new();
    let mut missing = Html::new();
    html.markup("<div class=\"figures\">");

    for (_, figure) in over_training(run) {
        match figure {
            // A program that draws nothing says so once.
            Err(error @ ReportError::NotBuilt(_)) => {
                missing = absent(&error);
                break;
            }
            Ok(figure) => html.add(&framed(&figure)),
            Err(error) => missing.add(&absent(&error)),
        };
    }

    html.markup("</div>");
    if !missing.is_empty() {
        html.markup("<ul class=\"note\">").add(&missing).markup("</ul>");
    }

    html
}

/// The losses of several runs in one figure.
pub(super) fn of_all(runs: &[Run]) -> Html {
    let figure = figure::loss(&runs.iter().collect::<Vec<_>>());
    between("<div class=\"figures\">", figure, "</div>")
}

/// The last state, for readers without scripts. With scripts, the page's map shows any state
/// instead.
pub(super) fn map(run: &Run) -> Html {
    between("<noscript>", map_of_now(run), "</noscript>")
}

/// A figure in an element, or why it cannot be shown.
fn between(open: &'static str, figure: Result<Figure>, close: &'static str) -> Html {
    let mut html = Html::new();
    html.markup(open);

    match figure {
        Ok(figure) => html.add(&framed(&figure)),
        Err(error) => html.markup("<ul class=\"note\">").add(&absent(&error)).markup("</ul>"),
    };

    html.markup(close);
    html
}

fn map_of_now(run: &Run) -> Result<Figure> {
    let title = format!("{} after step {}", run.name(), whole(run.steps_done()));
    figure::replication_map(run.state(), &title)
}

/// A drawing with more bytes than this is replaced by a picture, which is then smaller. This
/// happens with strips of many layers over many decisions.
const MOST_BYTES: usize = 250_000;

fn framed(figure: &Figure) -> Html {
    let drawing = figure.for_page();
    let mut html = Html::new();
    if drawing.len() <= MOST_BYTES {
        html.markup("<figure role=\"img\" aria-label=\"")
            .text(figure.alt())
            .markup("\">")
            .drawing(&drawing);
    } else {
        let png = match figure.png() {
            Ok(png) => STANDARD.encode(png),
            Err(error) => return absent(&error),
        };

        html.markup("<figure><img alt=\"")
            .text(figure.alt())
            .markup("\" src=\"data:image/png;base64,");
        html.text(&png).markup("\">");
    }

    html.tagged("<figcaption class=\"unseen\">", figure.title(), "</figcaption></figure>");
    html
}

fn absent(error: &ReportError) -> Html {
    let mut html = Html::new();
    let reason = match error {
        ReportError::NothingToShow { missing, .. } => missing.clone(),
        error => error.to_string(),
    };

    html.tagged("<li>Not shown: ", &reason, ".</li>");
    html
}
