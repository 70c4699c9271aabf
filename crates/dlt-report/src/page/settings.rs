//! The settings of a run compared with the paper's.

use dlt_spec::fields::{self, Field};
use dlt_spec::spec::Architecture;
use dlt_spec::{Spec, presets};

use super::html::{Column, Html, HtmlTable};
use crate::run::Run;

/// The settings that differ from the paper's, then all others, folded.
pub(super) fn settings(run: &Run, id: &str) -> Html {
    let paper = paper(&run.spec);
    let mut other = table();
    let mut same = table();
    let mut silent = table();

    for field in fields::shown(&run.spec) {
        match field.paper() {
            None => row(&mut silent, field, &run.spec),
            Some(_) if is_as_in_paper(field, &run.spec, paper.as_ref()) => {
                row(&mut same, field, &run.spec)
            }
            Some(_) => row(&mut other, field, &run.spec),
        }
    }

    let mut html = Html::new();
    if other.is_empty() {
        html.markup("<p>Every setting that the paper gives has the paper's value.</p>");
    } else {
        html.add(&other.html("Settings that differ from the paper's"));
    }

    for (part, name, table) in
        [("same", "As in the paper", same), ("silent", "Not stated in the paper", silent)]
    {
        html.markup("<details id=\"")
            .text(id)
            .markup("-")
            .text(part)
            .markup("\"><summary>")
            .text(name);
        html.markup("</summary>").add(&table.html(name)).markup("</details>");
    }

    html
}

fn table() -> HtmlTable {
    HtmlTable::new(&[
        ("setting", Column::Words),
        ("here", Column::Words),
        ("paper", Column::Words),
        ("authors’ code", Column::Words),
        ("meaning", Column::Words),
    ])
}

fn row(table: &mut HtmlTable, field: &Field, spec: &Spec) {
    let mut key = Html::new();
    key.tagged("<code>", field.key(), "</code>");

    let value = plain(field, spec);
    let mut here = Html::new();
    if field.key() == "training.epochs" && spec.training.steps.or(0) > 0 {
        here.markup("<small>not used: <code>training.steps</code> is given</small>");
    } else {
        here.tagged("<b>", if value.is_empty() { "–" } else { &value }, "</b>");
        if !field.unit().is_empty() {
            here.tagged(" <small>", field.unit(), "</small>");
        }
    }

    let mut paper = Html::new();
    if let Some(quote) = field.paper() {
        paper.text(quote.value).tagged(" <small>", quote.place, "</small>");
    }

    table.row_of(vec![key, here, paper, Html::of(field.authors_code()), Html::of(field.meaning())]);
}

/// A value as a spec file has it, words without their quotes.
pub(super) fn plain(field: &Field, spec: &Spec) -> String {
    let value = field.value(spec);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The spec of the paper's model of this architecture, or of its main model if the paper has none
/// of this architecture.
fn paper(spec: &Spec) -> Option<Spec> {
    let name = match spec.model.architecture {
        Architecture::Bert => "bert-paper",
        Architecture::Vit => "vit-paper",
        _ => "gpt2-paper",
    };

    presets::preset(name).and_then(presets::Preset::spec).ok()
}

/// Whether the value is that of the paper's preset, or one of the words that the paper gives: in
/// some places it gives two values.
fn is_as_in_paper(field: &Field, spec: &Spec, paper: Option<&Spec>) -> bool {
    if paper.is_some_and(|paper| field.value(paper) == field.value(spec)) {
        return true;
    }

    if field.key() == "model.vocabulary" && plain(field, spec) == "auto" {
        return fields::find("data.tokenizer")
            .is_some_and(|field| is_as_in_paper(field, spec, paper));
    }

    let value = plain(field, spec);
    let quote = field.paper().map_or("", |quote| quote.value);
    let is_between_words = |letter: char| letter.is_whitespace() || ",;:()".contains(letter);

    quote.split(is_between_words).any(|word| word.eq_ignore_ascii_case(&value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlt_spec::Overlay;

    fn is_as_in_paper_with(key: &str, set: &str) -> bool {
        let preset = presets::preset("gpt2-paper").unwrap().overlay().unwrap();
        let spec = Spec::assemble(&[preset, Overlay::from_assignment(set).unwrap()]).unwrap();
        is_as_in_paper(fields::find(key).unwrap(), &spec, paper(&spec).as_ref())
    }

    #[test]
    fn a_setting_is_the_papers_where_the_paper_says_so_anywhere() {
        assert!(is_as_in_paper_with("model.layers", "model.layers=48"));
        assert!(is_as_in_paper_with("model.layers", "model.layers=12"), "12 on Shakespeare");
        assert!(!is_as_in_paper_with("model.layers", "model.layers=4"));
        assert!(!is_as_in_paper_with("model.layers", "model.layers=1"));
        assert!(is_as_in_paper_with("optimizer.learning_rate", "optimizer.learning_rate=1e-4"));
        assert!(!is_as_in_paper_with("optimizer.learning_rate", "optimizer.learning_rate=1e-3"));
        assert!(is_as_in_paper_with("tying.first_decision", "tying.first_decision=at-step-0"));

        assert!(!is_as_in_paper_with(
            "tying.first_decision",
            "tying.first_decision=before-first-step"
        ));
        assert!(!is_as_in_paper_with("agent.policy", "agent.policy=random"));
    }
}
