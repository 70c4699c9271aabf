//! One page about one or several runs: a single HTML file that makes no network requests, or the
//! same page kept up to date during a run.
//!
//! Text cannot become markup: everything from a run enters a page through `Html::text`. A
//! Content-Security-Policy in the page forbids every request and every script except its own.

mod comparison;
mod curves;
mod history;
mod html;
mod live;
mod outcome;
mod policy;
mod reproduction;
mod settings;

pub use curves::figures;
pub use live::{Live, Snapshot};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::numbers::{duration, whole};
use crate::run::Run;
use html::Html;

/// Second line of every page. A file with it may be overwritten by another page.
pub const MARKER: &str = "<!-- A page of dlt report. -->";

const TEMPLATE: &str = include_str!("../assets/page.html");
const STYLE: &str = include_str!("../assets/page.css");
const SCRIPT: &str = include_str!("../assets/page.js");

/// How a page is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// A file that stays as it is.
    Still,
    /// Served during a run: it may ask its server for news.
    Live,
}

/// A page about runs.
#[derive(Debug)]
pub struct Page<'a> {
    runs: &'a [Run],
    digests: Vec<Digest>,
    kind: PageKind,
    notice: Option<&'a str>,
}

/// A piece of a page. When it changes, it is replaced as a whole.
struct Part {
    id: String,
    html: Html,
}

impl<'a> Page<'a> {
    /// A page about these runs.
    #[must_use]
    pub fn new(runs: &'a [Run], kind: PageKind) -> Self {
        Self { runs, digests: runs.iter().map(Digest::of).collect(), kind, notice: None }
    }

    /// The same page with a sentence above everything else.
    #[must_use]
    pub fn with_notice(self, notice: Option<&'a str>) -> Self {
        Self { notice, ..self }
    }

    /// The whole document.
    #[must_use]
    pub fn document(&self) -> String {
        self.document_of(self.parts(), &self.data())
    }

    fn document_of(&self, parts: Vec<Part>, data: &Value) -> String {
        let body = self.body(parts);
        let data = html::embedded(data);
        let mut document = String::with_capacity(TEMPLATE.len() + body.len() + data.len());

        // Filled in one pass, so that a text of a run that looks like a place of the template stays
        // text.
        for (index, piece) in TEMPLATE.split("{{").enumerate() {
            let Some((place, rest)) = piece.split_once("}}").filter(|_| index > 0) else {
                document.push_str(piece);
                continue;
            };

            match place {
                "marker" => document.push_str(MARKER),
                "policy" => document.push_str(&policy::of_page(self.kind)),
                "title" => document.push_str(&Html::of(&self.title()).into_string()),
                "style" => document.push_str(STYLE),
                "script" => document.push_str(SCRIPT),
                "data" => document.push_str(&data),
                "body" => document.push_str(&body),
                other => unreachable!("the template has no place {other}"),
            }

            document.push_str(rest);
        }

        document
    }

    fn title(&self) -> String {
        match self.runs {
            [run] => run.name(),
            runs => format!("{} runs compared", runs.len()),
        }
    }

    /// The data for the script: the states of the runs over time.
    fn data(&self) -> Value {
        let runs: Vec<Value> = self.runs.iter().map(history::moments).collect();
        json!({ "live": self.kind == PageKind::Live, "runs": runs })
    }

    fn body(&self, parts: Vec<Part>) -> String {
        let mut body = Html::new();
        body.markup("<header class=\"masthead\"><p class=\"kicker\">Dynamic layer tying</p>");
        body.tagged("<h1>", &self.title(), "</h1>");

        // The body takes the parts one by one, in the order in which `parts` made them.
        let mut parts = parts.into_iter();
        let mut next = |body: &mut Html, wanted: &str| {
            let part = parts
                .next()
                .filter(|part| part.id == wanted)
                .expect("parts are in the order of the page");

            body.markup("<div id=\"")
                .text(&part.id)
                .markup("\" data-part>")
                .add(&part.html)
                .markup("</div>");
        };

        next(&mut body, "notice");
        if self.runs.len() > 1 {
            body.markup("<nav aria-label=\"Runs\"><ul>");
            for (index, run) in self.runs.iter().enumerate() {
                body.markup("<li><a href=\"#run-")
                    .text(&index.to_string())
                    .markup("\">")
                    .text(&run.name());
                body.markup("</a></li>");
            }

            body.markup("</ul></nav>");
        }

        body.markup("</header>");
        if self.runs.len() > 1 {
            body.markup(
                "<section aria-labelledby=\"compared\"><h2 id=\"compared\">Comparison</h2>",
            );
            next(&mut body, "comparison");
            body.markup("</section>");
        }

        for (index, run) in self.runs.iter().enumerate() {
            let id = format!("run-{index}");
            body.markup("<article class=\"run\" id=\"")
                .text(&id)
                .markup("\" aria-labelledby=\"")
                .text(&id);
            body.markup("-name\"><h2 id=\"").text(&id).markup("-name\"");
            body.markup(if self.runs.len() == 1 { " class=\"unseen\">" } else { ">" })
                .text(&run.name());
            body.markup("</h2>");

            for (section, title) in SECTIONS {
                let id = format!("{id}-{section}");
                body.markup("<section>");

                if !title.is_empty() {
                    body.tagged("<h3>", title, "</h3>");
                }

                if *section == "map" {
                    body.markup("<div class=\"map\" data-run=\"")
                        .text(&index.to_string())
                        .markup("\"></div>");
                }

                next(&mut body, &id);
                body.markup("</section>");
            }

            body.markup("</article>");
        }

        body.into_string()
    }

    /// Every piece, in the order of the page.
    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part { id: "notice".to_owned(), html: self.notice_html() }];
        if self.runs.len() > 1 {
            let mut html = comparison::table(self.runs, &self.digests);
            html.add(&curves::of_all(self.runs));
            parts.push(Part { id: "comparison".to_owned(), html });
        }

        for (index, (run, digest)) in self.runs.iter().zip(&self.digests).enumerate() {
            for (section, _) in SECTIONS {
                let id = format!("run-{index}-{section}");
                let html = section_html(section, run, digest, &id, self.kind);
                parts.push(Part { id, html });
            }
        }

        parts
    }

    fn notice_html(&self) -> Html {
        let mut html = Html::new();
        if let Some(notice) = self.notice {
            html.tagged("<p class=\"warning\" role=\"alert\">", notice, "</p>");
        }
        html
    }
}

/// The sections of a run, each with its heading.
const SECTIONS: &[(&str, &str)] = &[
    ("glance", ""),
    ("map", "Who uses whose weights"),
    ("curves", "Over training"),
    ("outcome", "Outcome in numbers"),
    ("layers", "Layers"),
    ("decisions", "Decisions"),
    ("settings", "Settings compared with the paper’s"),
    ("reproduction", "How to reproduce this run"),
];

fn section_html(section: &str, run: &Run, digest: &Digest, id: &str, kind: PageKind) -> Html {
    match section {
        "glance" => {
            let mut html = status(run, digest, kind);
            html.add(&outcome::glance(run, digest));
            html
        }
        "map" => curves::map(run),
        "curves" => curves::of_one(run),
        "outcome" => outcome::tables(run, digest),
        "layers" => history::layers_table(run),
        "decisions" => {
            let mut html = Html::new();
            html.markup("<details id=\"")
                .text(id)
                .markup("-all\"><summary>")
                .text(&whole(digest.decisions));
            html.markup(if digest.decisions == 1 { " decision, " } else { " decisions, " });
            html.tagged("", &whole(digest.tied_events), " times tied, ");
            html.tagged("", &whole(digest.untied_events), " times untied</summary>");
            html.add(&history::decisions(run)).markup("</details>");
            html
        }
        "settings" => settings::settings(run, id),
        _ => reproduction::reproduction(run, id),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the run is, and whether it has finished.
fn status(run: &Run, digest: &Digest, kind: PageKind) -> Html {
    let mut html = Html::new();
    html.tagged("<p class=\"lede\">", &reproduction::line(run), "<br>");
    html.tagged("", &capitalised(&digest.method), "</p>");

    let of = digest.planned_steps.map_or_else(String::new, |steps| format!(" of {}", whole(steps)));
    let took =
        digest.elapsed_s.map_or_else(String::new, |seconds| format!(" in {}", duration(seconds)));

    match (&run.summary, kind) {
        (Some(_), _) => html.tagged(
            "<p class=\"status done\">",
            &format!("Finished: {} steps{took}", whole(digest.steps)),
            "</p>",
        ),
        (None, PageKind::Live) => html.tagged(
            "<p class=\"status going\">",
            &format!("Step {}{of}{took}", whole(digest.steps)),
            "</p>",
        ),
        (None, PageKind::Still) => html.tagged(
            "<p class=\"status going\">Unfinished when this page was made: step ",
            &format!("{}{of}{took}", whole(digest.steps)),
            "</p>",
        ),
    };

    if let (None, Some(steps)) = (&run.summary, digest.planned_steps) {
        html.markup("<progress aria-label=\"Training steps done\" max=\"").text(&steps.to_string());
        html.markup("\" value=\"")
            .text(&digest.steps.min(steps).to_string())
            .markup("\"></progress>");
    }

    if let Some(skipped) = run.metrics.steps.last().and_then(|row| row.skipped_steps) {
        let text =
            format!("{} steps changed nothing: a loss or gradient was not finite.", whole(skipped));
        html.tagged("<p class=\"warning\">", &text, "</p>");
    }

    html
}
