//! `dlt generate`: continues prompts, and prints the texts while they are generated.

mod speed;
mod text;

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use dlt_data::Tokenizer;
use dlt_models::generation::{Continuation, End, Event, Sampling, generate};
use dlt_run::Saved;
use dlt_spec::ExitCode;
use dlt_spec::spec::Marks;

use crate::arguments::GenerateTask;
use crate::failure::{Failure, Result};
use crate::{hub, loading, machine, output};
pub(crate) use speed::Speed;
use text::Text;

/// The file name that means standard input.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(task: &GenerateTask) -> Result {
    let sampling = Sampling::new(task.temperature, task.top_k, task.top_p)?;
    let sampling = sampling.penalising_repetition(task.repetition_penalty)?;

    if task.stop.iter().any(String::is_empty) {
        return Err(Failure::usage("--stop: expected some text, got none"));
    }

    let prompts = prompts(task)?;
    let saved = Saved::open(&task.run)?;
    saved.verify_tokenizer(hub::config()?.as_ref(), output::note)?;

    let (device, _) = machine::open(&task.machine)?;
    let tokenizer = loading::tokenizer(&saved.spec.data.tokenizer)?;

    // A prompt is not a whole text, so it gets only the marks before a text, not those after it.
    let before = match saved.spec.data.marks {
        Marks::Template => tokenizer.marks()?.before,
        Marks::None => Vec::new(),
    };

    let mut ids = Vec::with_capacity(prompts.len());
    for prompt in &prompts {
        let mut prompt = tokenizer.encode(prompt)?;
        if !prompt.starts_with(&before) {
            prompt.splice(0..0, before.iter().copied());
        }

        if prompt.is_empty() {
            // The model needs at least one token. The end of text is between texts, so a new text
            // can begin after it.
            prompt.extend(tokenizer.eos());
        }

        if prompt.is_empty() {
            return Err(Failure::usage("--prompt: expected some text, got none"));
        }

        ids.push(prompt);
    }

    let model = saved.model(&device)?;
    let wanted = Continuation {
        prompts: &ids,
        tokens: task.tokens,
        context: saved.spec.model.context,
        stop: &tokenizer.special().ends,
        sampling,
        seed: task.seed,
        at_once: task.batch.get(),
    };

    let texts = ids.iter().map(|ids| Reply {
        text: Text::new(&tokenizer, &task.stop, ids),
        prompt_tokens: ids.len(),
        tokens: 0,
        end: None,
    });

    let mut replies = Replies {
        prompts: &prompts,
        tokenizer: &tokenizer,
        replies: texts.collect(),
        form: match (task.json, prompts.len()) {
            (true, _) => Form::Json,
            (false, 1) => Form::Stream,
            (false, _) => Form::Whole,
        },
        printed: 0,
        speed: Speed::start(),
        outcome: Ok(()),
    };

    if let Form::Stream = replies.form {
        output::print(&prompts[0])?;
    }

    generate(&model, &wanted, |number, event| replies.take(number, event))?;
    replies.outcome?;

    for (reply, number) in replies.replies.iter().zip(1..) {
        let which = if replies.prompts.len() == 1 {
            String::new()
        } else {
            format!("{number} of {}: ", prompts.len())
        };

        output::note(&format!("{which}{}", reply.ending(&tokenizer)));
    }

    output::note(&replies.speed.sentence());
    Ok(())
}

/// The prompts of `--prompt`, then the lines of `--prompt-file` that are not empty.
fn prompts(task: &GenerateTask) -> Result<Vec<String>> {
    let mut prompts = task.prompt.clone();
    if let Some(path) = &task.prompt_file {
        let most = dlt_spec::file::CONFIGURATION_BYTES;
        let text = if path == Path::new(STANDARD_INPUT) {
            std::io::read_to_string(std::io::stdin().take(most))
        } else {
            dlt_spec::file::read_text(path, most)
        };

        let text = text.map_err(|error| {
            let message = format!("--prompt-file: cannot read {}: {error}", path.display());
            Failure::refused(ExitCode::BadData, message)
        })?;

        prompts.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }

    if prompts.is_empty() {
        return Err(Failure::usage("--prompt-file: expected a line with text, got none"));
    }

    Ok(prompts)
}

/// How replies are printed.
#[derive(Clone, Copy)]
enum Form {
    /// One text, while it is generated.
    Stream,
    /// Each text, as soon as it and those before it are finished.
    Whole,
    /// As [`Whole`](Self::Whole), as a line of JSON each.
    Json,
}

/// The text of one prompt so far.
struct Reply<'a> {
    text: Text<'a>,
    prompt_tokens: usize,
    tokens: usize,
    end: Option<End>,
}

impl Reply<'_> {
    /// Why the text ended, as a word, and the token that ended it.
    fn reason(&self, tokenizer: &Tokenizer) -> (&'static str, Option<String>) {
        match self.end {
            Some(End::Stop(token)) => {
                ("end-of-text", Some(tokenizer.token(token).unwrap_or_default()))
            }
            Some(End::Broken) => ("stop-text", None),
            Some(End::Length) | None => ("length", None),
        }
    }

    /// Why the text ended, in a sentence.
    fn ending(&self, tokenizer: &Tokenizer) -> String {
        let after = format!("stopped after {} tokens", self.tokens);

        match self.end {
            Some(End::Stop(id)) => {
                let token = tokenizer.token(id).unwrap_or_default();
                format!("{after}: the end of the text, {token:?} (token {id})")
            }
            Some(End::Broken) => format!("{after}: found a text of --stop"),
            Some(End::Length) | None => format!("{after}: as many as --tokens asks for"),
        }
    }
}

/// The texts of all prompts, and how much of them is printed.
struct Replies<'a> {
    prompts: &'a [String],
    tokenizer: &'a Tokenizer,
    replies: Vec<Reply<'a>>,
    form: Form,
    /// What is printed: bytes of the text if it is streamed, else a number of texts.
    printed: usize,
    speed: Speed,
    /// The first failure; it ends the generation of all texts.
    outcome: Result,
}

impl Replies<'_> {
    /// Takes an event of text `number`. Breaks off that text once it has ended.
    fn take(&mut self, number: usize, event: Event) -> ControlFlow<()> {
        self.speed.take(event, self.replies[number].prompt_tokens);
        // After a failure, such as a closed pipe, the other texts are not worth computing.
        if self.outcome.is_ok() {
            match self.follow(number, event) {
                Ok(true) => return ControlFlow::Continue(()),
                Ok(false) => {}
                Err(failure) => self.outcome = Err(failure),
            }
        }

        ControlFlow::Break(())
    }

    /// Adds an event to its text and prints what is new; returns whether the text continues.
    fn follow(&mut self, number: usize, event: Event) -> Result<bool> {
        let reply = &mut self.replies[number];
        let continues = match event {
            Event::Read => true,
            Event::Token(token) => {
                reply.tokens += 1;
                reply.text.push(token)?
            }
            Event::End(end) => {
                reply.text.end()?;
                reply.end = Some(end);
                false
            }
        };

        match self.form {
            Form::Stream => self.print_stream()?,
            Form::Whole | Form::Json => self.print_whole()?,
        }

        Ok(continues)
    }

    /// Prints what is new of the only text.
    fn print_stream(&mut self) -> Result {
        let Reply { text, end, .. } = &self.replies[0];
        let new = &text.settled()[self.printed..];
        self.printed += new.len();

        match end {
            Some(_) => output::print(&format!("{new}\n")),
            None if new.is_empty() => Ok(()),
            None => output::print(new),
        }
    }

    /// Prints the texts that have ended and are next in order.
    fn print_whole(&mut self) -> Result {
        while let Some(reply) = self.replies.get(self.printed)
            && let Some(end) = reply.end
        {
            let prompt = &self.prompts[self.printed];
            let continuation = reply.text.settled();
            self.printed += 1;

            if let Form::Json = self.form {
                let (reason, token) = reply.reason(self.tokenizer);
                let mut line = serde_json::json!({
                    "prompt": prompt,
                    "continuation": continuation,
                    "prompt_tokens": reply.prompt_tokens,
                    "tokens": reply.tokens,
                    "end": if end == End::Length { "length" } else { "stop" },
                    "reason": reason,
                });

                if let Some(token) = token {
                    line["token"] = token.into();
                }

                output::print(&format!("{line}\n"))?;
                continue;
            }

            let space = if self.printed == 1 { "" } else { "\n" };
            let heading = format!("{space}=== {} of {} ===", self.printed, self.prompts.len());
            output::print(&format!("{heading}\n{prompt}{continuation}\n"))?;
        }

        Ok(())
    }
}
