//! The plan of a data folder as text: which file goes to which split.

use dlt_spec::record::{Division, FolderPlan, LeftOut, Reason};

use crate::numbers::whole;

/// Most files that are listed for each split, and of those that are left out.
const SHOWN: usize = 20;

/// The plan in one line, for the start of a run.
pub(crate) fn line(plan: &FolderPlan) -> String {
    let count = |files: &[String]| match files {
        [only] => only.clone(),
        files => format!("{} files", whole(files.len())),
    };

    let mut text = match plan.division {
        Division::Fractions => {
            format!("{}, one text that `data.split` cuts by position", count(&plan.train))
        }
        Division::Checksums => {
            format!("{}, whose rows are divided by the checksum of their text", count(&plan.train))
        }
        Division::ValidationFromTrain | Division::ValidationByChecksums => format!(
            "{} to train on, except 5 % of the rows, which are for validation; {} to test",
            count(&plan.train),
            count(&plan.test)
        ),
        Division::Names | Division::Catalogue => {
            let test = match plan.test.as_slice() {
                [] => "no test split, so no test figures".to_owned(),
                files => format!("{} to test", count(files)),
            };

            format!(
                "{} to train on, {} to validate, {test}",
                count(&plan.train),
                count(&plan.validation)
            )
        }
    };

    let data = plan.left_out.iter().filter(|left| left.reason != Reason::NoData).count();
    if data > 0 {
        text.push_str(&format!("; left out: {} (`dlt data info` lists them)", whole(data)));
    }

    text
}

/// The plan in full, for `dlt data info`.
pub(crate) fn full(plan: &FolderPlan) -> String {
    let mut text = format!("{:<8} {}\n", "splits", plan.division);
    for (split, files) in
        [("train", &plan.train), ("validation", &plan.validation), ("test", &plan.test)]
    {
        if plan.division == Division::Fractions && split != "train" {
            continue;
        }

        let name = if plan.division == Division::Fractions { "files" } else { split };
        text.push_str(&match files.len() {
            0 if split == "test" => "test     no file: there will be no test figures\n".to_owned(),
            0 => format!("{name:<8} no separate file\n"),
            1 => format!("{name:<8} 1 file\n"),
            count => format!("{name:<8} {} files, in this order\n", whole(count)),
        });

        lines(&mut text, files.iter().map(String::clone));
    }

    if !plan.left_out.is_empty() {
        text.push_str("left out\n");
        let line = |LeftOut { file, reason }: &LeftOut| format!("{file}: {reason}");
        lines(&mut text, plan.left_out.iter().map(line));
    }

    text
}

/// Adds indented lines, at most [`SHOWN`] of them.
fn lines(text: &mut String, lines: impl ExactSizeIterator<Item = String>) {
    let more = lines.len().saturating_sub(SHOWN);
    lines.take(SHOWN).for_each(|line| text.push_str(&format!("  {line}\n")));
    if more > 0 {
        text.push_str(&format!("  and {} more\n", whole(more)));
    }
}
