//! The text at the end of `dlt --help`: first steps, where files go, exit codes.

use std::fmt::Write;

use dlt_spec::ExitCode;

/// The text; its lines have at most 100 columns.
pub(crate) fn guide() -> String {
    let mut text = "\
First steps:
  dlt train --preset smoke                            seconds: see a run from end to end
  dlt train                                           minutes: 12 layers on Shakespeare
  dlt inspect runs/shakespeare-12-1                   which layers share weights
  dlt generate runs/shakespeare-12-1 --prompt \"ROMEO:\"
  dlt spec smoke                                      every field of a run, explained
  dlt train --resume runs/shakespeare-12-1            resume a run that was stopped
  dlt doctor runs/shakespeare-12-1                    are all files of a run whole?

Where files go:
  runs/NAME-SEED         A run, unless --out names another folder.
                         `dlt train --help` lists its files.
                         NAME is the preset's name, plus words for what differs from the preset:
                         the start, the data, the method and the policy.
                         If the name is in use, the run gets the next free number.
  ~/.cache/dlt           Tokens of texts that were read before.
                         DLT_CACHE or XDG_CACHE_HOME names another place.
  ~/.cache/huggingface   Files that were fetched from the hub, shared with Python.
                         HF_HOME or HF_HUB_CACHE names another place.
Results go to standard output, everything else to standard error.
Control characters are shown as \\u001b.

DLT_REHEARSAL=1 makes every training run and `dlt bench step` tiny, whatever the other settings
say. It lets you try commands in seconds.
DLT_PRODUCTS=amx, avx512-bf16 or f32 chooses what multiplies bf16 matrices on the processor, for
tests and comparisons. Otherwise the fastest one of the machine does; `dlt --version` names it.

Exit codes:
"
    .to_owned();

    for code in ExitCode::ALL {
        writeln!(text, "  {:<4} {}", code.number(), code.meaning())
            .expect("writing to a string cannot fail");
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_exit_code() {
        let guide = guide();
        for code in ExitCode::ALL {
            assert!(guide.contains(&format!("{:<4} {}", code.number(), code.meaning())), "{guide}");
        }
    }
}
