//! `dlt generate`: seeded, and the prompt first.

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
    assert!(first.starts_with("To be") && first.ends_with('\n') && first.len() > "To be\n".len(), "{first}");
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
