//! How to repeat a run, and how it was made.

use dlt_spec::fields;
use dlt_spec::record::Provenance;
use dlt_spec::spec::Architecture;

use super::html::{Column, Html, HtmlTable};
use crate::numbers::{moment, whole};
use crate::run::Run;
use crate::shell::quoted;

/// The command, the provenance, and the spec, folded.
pub(super) fn reproduction(run: &Run, id: &str) -> Html {
    let provenance = &run.provenance;
    let mut html = Html::new();
    html.tagged(
        "<p>The command that made this run:</p><pre tabindex=\"0\">",
        &shell(&provenance.command_line),
        "</pre>",
    );

    for resumed in &provenance.resumed {
        html.tagged("<p>Resumed after step ", &whole(resumed.step), ":</p>");
        html.tagged("<pre tabindex=\"0\">", &shell(&resumed.command_line), "</pre>");
    }

    let spec = quoted(&run.path.join(dlt_spec::record::SPEC_FILE).to_string_lossy());
    let again = quoted(&format!("{}-again", run.path.to_string_lossy().trim_end_matches('/')));
    html.markup(
        "<p>Or from its spec. With the same number of threads, the same kind of machine gives the \
         same losses bit for bit:</p>",
    );

    let command = format!("dlt train {spec} --threads {} --out {again}", provenance.threads);
    html.tagged("<pre tabindex=\"0\">", &command, "</pre>");
    html.add(&table(provenance));
    html.markup("<details id=\"")
        .text(id)
        .markup("-spec\"><summary>The whole spec</summary><pre tabindex=\"0\">");
    html.text(&spec_text(run)).markup("</pre></details>");

    html
}

fn table(provenance: &Provenance) -> Html {
    let Provenance { host, data, .. } = provenance;
    let mut table = HtmlTable::new(&[("", Column::Words), ("", Column::Words)]);
    let engine = host.product_engine.as_ref();
    let engine = engine.map_or(String::new(), |engine| format!(", products of bf16 by {engine}"));
    let machine = format!("{}, {} cores, {}{engine}", host.cpu, host.cores, host.os);
    let test = data.test_tokens.map_or_else(
        || "no test split".to_owned(),
        |tokens| format!("{} to test", whole_u64(tokens)),
    );

    let tokens = format!(
        "{} to train, {} to validate, {test}",
        whole_u64(data.train_tokens),
        whole_u64(data.validation_tokens),
    );
    table.row(["program", &format!("dlt {}", provenance.version)]);

    table.row([
        "revision",
        provenance.revision.as_deref().unwrap_or("unknown: built outside a checkout"),
    ]);
    table.row(["compiler", &provenance.toolchain]);
    table.row(["machine", &machine]);
    table.row(["threads", &provenance.threads.to_string()]);
    table.row(["device", &provenance.device]);
    table.row(["started", &moment(provenance.started_at)]);

    for resumed in &provenance.resumed {
        let changed = if resumed.changed.is_empty() {
            String::new()
        } else {
            format!(", with changed {}", resumed.changed.join(", "))
        };

        table.row(["resumed", &format!("{}{changed}", moment(resumed.started_at))]);
    }

    table.row(["root seed", &provenance.seed.to_string()]);
    table.row(["fingerprint of the spec", &provenance.spec_fingerprint]);
    table.row(["data", &data.source]);

    if let Some(commit) = &data.commit {
        table.row(["commit of the data", commit]);
    }
    if let Some(column) = &data.column {
        table.row(["column of the data", &format!("{} ({})", column.name, column.chosen)]);
    }

    table.row(["SHA-256 of the data", &data.sha256]);
    table.row(["tokenizer", &data.tokenizer]);
    table.row(["tokens or examples", &tokens]);

    table.html("Provenance")
}

fn whole_u64(number: u64) -> String {
    usize::try_from(number).map_or_else(|_| number.to_string(), whole)
}

/// The spec without the comments that `dlt spec` prints.
fn spec_text(run: &Run) -> String {
    let mut text = String::new();
    let mut section = "";
    for field in fields::shown(&run.spec) {
        if field.section() != section {
            section = field.section();
            text += &format!("\n[{section}]\n");
        }

        text += &format!("{} = {}\n", field.name(), field.value(&run.spec));
    }

    text
}

/// The model, data and seed of a run, in one line.
pub(super) fn line(run: &Run) -> String {
    let model = &run.spec.model;
    let context = match model.architecture {
        Architecture::Vit => String::new(),
        _ => format!(", context {}", model.context),
    };

    format!(
        "{} of {} layers, width {}, {} heads{context}, on {}, seed {}",
        model.architecture.title(),
        model.layers,
        model.width,
        model.heads,
        run.provenance.data.source,
        run.spec.seed
    )
}

fn shell(words: &[String]) -> String {
    // The program's path is that of the machine that it ran on, which is of no use elsewhere.
    let program = words.first().and_then(|program| program.rsplit('/').next()).map(quoted);
    let rest = words.iter().skip(1).map(|word| quoted(word));
    program.into_iter().chain(rest).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let words =
            ["/opt/it is/dlt", "train", "--set", "data.source=it's mine", ""].map(str::to_owned);
        assert_eq!(shell(&words), r"dlt train --set 'data.source=it'\''s mine' ''");
    }
}
