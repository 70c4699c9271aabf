//! `dlt completions` and `dlt man`: what a shell and `man` need to know about the command line.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use dlt_spec::ExitCode;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::output;
use crate::program::VERSION;

pub(crate) const COMPLETIONS_HELP: &str = "\
Examples:
  dlt completions bash > ~/.local/share/bash-completion/completions/dlt
  dlt completions zsh > ~/.zfunc/_dlt    with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  dlt completions fish > ~/.config/fish/completions/dlt.fish
  dlt completions powershell >> $PROFILE

They take effect in the next shell. The folders must exist.";

pub(crate) const MAN_HELP: &str = "\
Example:
  dlt man ~/.local/share/man/man1    then: man dlt, man dlt-train

A page for each command is written into the folder, which is made if it does not exist.";

#[derive(Args, Debug)]
pub(crate) struct CompletionsTask {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManTask {
    /// Folder for the pages
    pub(crate) folder: PathBuf,
}

/// Prints the completions for a shell.
pub(crate) fn completions(task: &CompletionsTask) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(task.shell, &mut Arguments::command(), "dlt", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages into a folder.
pub(crate) fn man(task: &ManTask) -> Result {
    let cannot = |place: &Path, error: std::io::Error| {
        let message = format!("cannot write {}: {error}", place.display());
        Failure::refused(ExitCode::Resources, message)
    };
    std::fs::create_dir_all(&task.folder).map_err(|error| cannot(&task.folder, error))?;

    let pages = pages();
    for (name, page) in &pages {
        output::replace(&task.folder.join(name), page)?;
    }

    output::note(&format!("{} manual pages are in {}", pages.len(), task.folder.display()));
    Ok(())
}

/// The pages of the program and of each command, with the names of their files.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    // Names each command by its whole path, as in `dlt-bench-step`.
    program.build();

    let mut waiting = vec![program];
    let mut pages = Vec::new();
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
        pages.push(page(command));
    }

    pages
}

fn page(command: Command) -> (String, Vec<u8>) {
    let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_commands = command.has_subcommands();
    let man = Man::new(command).source(format!("dlt {VERSION}"));
    let mut page = Vec::new();

    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(
            |()| if has_commands { man.render_subcommands_section(&mut page) } else { Ok(()) },
        );
    rendered.expect("writing to memory cannot fail");

    if !below.is_empty() {
        page.extend(as_typed(&below).into_bytes());
    }

    (man.get_filename(), page)
}

/// A section whose lines stay as they are. The library would fill them up to paragraphs, which
/// makes examples and tables unreadable.
fn as_typed(text: &str) -> String {
    let mut section = String::from(".SH NOTES\n.nf\n");
    for line in text.lines() {
        // A point or an apostrophe at the start would be a command of roff.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        section += &format!("{guard}{}\n", line.replace('\\', "\\e").replace('-', "\\-"));
    }

    section + ".fi\n"
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn names(command: &Command) -> Vec<String> {
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect()
    }

    #[test]
    fn completions_for_each_shell_name_every_command() {
        let names = names(&Arguments::command());
        assert!(names.len() > 15, "{names:?}");

        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "dlt", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in names.iter().map(String::as_str).chain(["step", "decode", "prompt-file"]) {
                assert!(script.contains(word), "{shell}: {word} is missing");
            }

            let shown = crate::shown::escaped(&script);
            assert_eq!(shown, script, "{shell}: the script can be printed as it is");
        }
    }

    #[test]
    fn each_command_has_a_page_whose_examples_are_as_typed() {
        let pages = pages();
        let page = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            let (_, page) = found.unwrap_or_else(|| panic!("{name} is missing"));
            String::from_utf8(page.clone()).unwrap()
        };

        for name in names(&Arguments::command()) {
            page(&format!("dlt-{name}.1"));
        }

        assert!(page("dlt.1").contains("\n  130  interrupted\n"), "{}", page("dlt.1"));
        let train = page("dlt-train.1");
        assert!(train.contains("\n  dlt train my.txt \\-\\-seed 7 "), "{train}");
        assert!(page("dlt-bench-step.1").contains("dlt\\-bench\\-step"));
    }

    #[test]
    fn lines_that_roff_would_read_as_commands_are_guarded() {
        assert_eq!(as_typed(".x\n'y\na\\b-c"), ".SH NOTES\n.nf\n\\&.x\n\\&'y\na\\eb\\-c\n.fi\n");
    }
}
