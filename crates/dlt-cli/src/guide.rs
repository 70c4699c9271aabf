//! What the help of the whole program ends with: first steps, places, exit codes.

use std::fmt::Write;

use dlt_spec::ExitCode;

/// The whole text.
pub(crate) fn guide() -> String {
    let mut text = "\
First steps:
  dlt train --preset smoke                            seconds: see a run from end to end
  dlt train                                           minutes: 12 layers on Shakespeare
  dlt inspect runs/shakespeare-12-1                   which layers share weights
  dlt generate runs/shakespeare-12-1 --prompt \"ROMEO:\"
  dlt spec smoke                                      every field of a run, explained
  dlt train --resume runs/shakespeare-12-1            go on with a run that was stopped
  dlt doctor runs/shakespeare-12-1                    is everything of a run whole?

Where files go:
  runs/NAME-SEED         a run, unless --out says otherwise (`dlt train --help` lists its files); NAME is the preset's, and
                         says which data, method, policy and start are others; a taken name gets the next free number
  ~/.cache/dlt           tokens of texts that were read once; DLT_CACHE or XDG_CACHE_HOME moves it
  ~/.cache/huggingface   what was fetched from the hub, shared with Python; HF_HOME or HF_HUB_CACHE moves it
Results are printed on standard output, everything else on standard error. Control characters are shown as \\u001b.

DLT_REHEARSAL=1 makes every training run and `dlt bench step` tiny, whatever else is said: to try commands in seconds.


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
