//! `dlt generate`: seeds, several prompts at the same time, and where texts end.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::workplace::Workplace;

fn generate(place: &Workplace, more: &[&str]) -> String {
    let mut arguments = vec!["generate", "run", "--prompt", "To be", "--tokens", "12"];
    arguments.extend(more);
    place.dlt(&arguments).ok().out
}

#[test]
fn law_a_seed_settles_the_text() {
    let place = Workplace::new();
    place.train("run", &[]);

    let first = generate(&place, &["--seed", "1"]);
    assert!(
        first.starts_with("To be") && first.ends_with('\n') && first.len() > "To be\n".len(),
        "{first}"
    );
    assert_eq!(first, generate(&place, &["--seed", "1"]));
    assert_ne!(first, generate(&place, &["--seed", "2"]));
}

#[test]
fn nothing_is_drawn_at_temperature_zero_or_from_one_token() {
    let place = Workplace::new();
    place.train("run", &[]);

    let greedy = generate(&place, &["--temperature", "0", "--seed", "1"]);
    assert_eq!(greedy, generate(&place, &["--temperature", "0", "--seed", "2"]));
    assert_eq!(greedy, generate(&place, &["--top-k", "1", "--seed", "3"]));
    assert_eq!(greedy, generate(&place, &["--top-p", "0.000001", "--seed", "4"]));
}

#[test]
fn an_empty_prompt_begins_a_text() {
    let place = Workplace::new();
    place.train("run", &[]);
    let said = place.dlt(&["generate", "run", "--prompt", "", "--tokens", "4"]).ok();
    assert!(said.out.len() > 1, "{said:?}");
}

/// The lines that `--json` prints, as objects.
fn lines(place: &Workplace, more: &[&str]) -> Vec<Value> {
    let said = place.dlt(&[&["generate", "run", "--tokens", "12", "--json"], more].concat()).ok();
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn law_a_text_does_not_depend_on_the_prompts_beside_it() {
    let place = Workplace::new();
    place.train("run", &[]);

    let prompts = ["--prompt", "To be", "--prompt", "What", "--prompt", "My noble lord, I"];
    let all = lines(&place, &prompts);
    assert_eq!(all.len(), 3);

    for batch in ["1", "2"] {
        assert_eq!(lines(&place, &[&prompts[..], &["--batch", batch]].concat()), all);
    }

    assert_eq!(lines(&place, &["--prompt", "To be"]), all[..1]);
    let alone = generate(&place, &[]);
    assert_eq!(alone, format!("To be{}\n", all[0]["continuation"].as_str().unwrap()));
}

#[test]
fn several_texts_are_printed_whole_and_in_order() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.write("prompts.txt", "To be\n\nWhat\n");

    let all = lines(&place, &["--prompt", "Lo", "--prompt-file", "prompts.txt"]);
    let prompts: Vec<&str> = all.iter().map(|line| line["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["Lo", "To be", "What"]);

    let text = |line: &Value| {
        format!("{}{}", line["prompt"].as_str().unwrap(), line["continuation"].as_str().unwrap())
    };
    let [first, second, third] = [text(&all[0]), text(&all[1]), text(&all[2])];

    let said = place.dlt(&[
        "generate",
        "run",
        "--tokens",
        "12",
        "--prompt",
        "Lo",
        "--prompt-file",
        "prompts.txt",
    ]);

    let expected =
        format!("=== 1 of 3 ===\n{first}\n\n=== 2 of 3 ===\n{second}\n\n=== 3 of 3 ===\n{third}\n");
    assert_eq!(said.ok().out, expected);
}

#[test]
fn prompts_come_from_standard_input() {
    let place = Workplace::new();
    place.train("run", &[]);

    let mut command =
        place.command(&["generate", "run", "--tokens", "3", "--json", "--prompt-file", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"To be\nor not\n").unwrap();

    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.contains("\"tokens\":3")), "{text}");
}

#[test]
fn a_text_ends_before_a_stop_text() {
    let place = Workplace::new();
    place.train("run", &[]);

    let whole = lines(&place, &["--prompt", "To be"]).remove(0);
    assert_eq!((&whole["end"], &whole["tokens"]), (&"length".into(), &12.into()), "{whole}");

    let text = whole["continuation"].as_str().unwrap();
    // The last two characters of the text are the stop text. The text ends where they first occur.
    let (at, _) = text.char_indices().rev().nth(1).unwrap();
    let stop = &text[at..];
    let ended =
        lines(&place, &["--prompt", "To be", "--stop", stop, "--stop", "never there"]).remove(0);

    assert_eq!(ended["continuation"], text[..text.find(stop).unwrap()]);
    assert_eq!(ended["end"], "stop");

    let streamed = generate(&place, &["--stop", stop]);
    assert_eq!(streamed, format!("To be{}\n", ended["continuation"].as_str().unwrap()));
}

#[test]
fn a_penalty_makes_repetition_rarer() {
    let place = Workplace::new();
    place.train("run", &[]);

    let distinct = |more: &[&str]| {
        let text = place
            .dlt(
                &[
                    &[
                        "generate",
                        "run",
                        "--prompt",
                        "To be",
                        "--temperature",
                        "0",
                        "--tokens",
                        "30",
                    ],
                    more,
                ]
                .concat(),
            )
            .ok()
            .out;

        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        letters.len()
    };

    let free = distinct(&[]);
    let penalised = distinct(&["--repetition-penalty", "100"]);
    assert!(penalised > free, "{penalised} distinct characters, {free} without a penalty");
}

#[test]
fn the_speed_goes_to_standard_error() {
    let place = Workplace::new();
    place.train("run", &[]);
    let said = place.dlt(&["generate", "run", "--prompt", "To be", "--tokens", "12"]).ok();
    assert!(said.err.contains("read ") && said.err.contains("wrote 11 tokens at "), "{}", said.err);
    assert!(!said.out.contains("a second"), "{}", said.out);
}

#[test]
fn rejects_what_cannot_be_generated() {
    let place = Workplace::new();
    place.train("run", &[]);
    place.write("empty.txt", "\n\n");

    for (arguments, code, word) in [
        (&["--prompt", "a", "--stop", ""][..], 2, "--stop: expected some text"),
        (
            &["--prompt", "a", "--repetition-penalty", "0"],
            2,
            "repetition penalty: expected a number above 0",
        ),
        (&["--prompt-file", "none.txt"], 4, "--prompt-file: cannot read none.txt"),
        (&["--prompt-file", "empty.txt"], 2, "--prompt-file: expected a line with text, got none"),
        (&["--prompt", "a", "--batch", "0"], 2, "--batch"),
        (&[], 2, "--prompt"),
    ] {
        let said = place.dlt(&[&["generate", "run"], arguments].concat());
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(word), "{word} in {}", said.err);
    }
}
