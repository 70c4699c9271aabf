//! `dlt generate`: a text continued, printed as it comes.

use dlt_data::Tokenizer;
use dlt_models::generation::{Continuation, Sampling, generate};
use dlt_spec::{ExitCode, seeds};
use dlt_train::open_device;

use crate::arguments::GenerateTask;
use crate::failure::{Failure, Result};
use crate::saved::Saved;
use crate::{output, threads, tokens};

/// What a byte-level tokenizer gives for the first bytes of a character whose others are still to come.
const UNFINISHED: char = '\u{fffd}';

pub(crate) fn run(task: &GenerateTask) -> Result {
    threads::prepare(task.machine.threads);
    let sampling = Sampling::new(task.temperature, task.top_k, task.top_p)?;
    let saved = Saved::open(&task.run)?;
    let (device, _) = open_device(task.machine.device)?;
    let tokenizer = tokens::tokenizer(&saved.spec.data.tokenizer)?;
    let mut prompt = tokenizer.encode(&task.prompt)?;
    if prompt.is_empty() {
        // What stands between texts is the beginning of one.
        prompt.extend(tokenizer.eos());
    }
    if prompt.is_empty() {
        return Err(Failure::refused(ExitCode::Usage, "--prompt: expected some text, came none"));
    }
    let model = saved.model(&device)?;

    output::print(&task.prompt)?;
    let mut writer = Writer { tokenizer: &tokenizer, pending: Vec::new(), written: Ok(()) };
    let mut rng = seeds::stream(task.seed, "generation");
    let wanted = Continuation {
        prompt: &prompt,
        tokens: task.tokens,
        context: saved.spec.model.context,
        stop: tokenizer.eos(),
        sampling,
    };
    generate(&model, &wanted, &mut rng, |token| writer.push(token))?;
    writer.end()
}

/// Writes tokens as soon as they are whole characters.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u32>,
    /// The first failure: generation cannot be stopped from here.
    written: Result,
}

impl Writer<'_> {
    fn push(&mut self, token: u32) {
        self.pending.push(token);
        if self.written.is_ok() {
            self.written = self.write();
        }
    }

    fn write(&mut self) -> Result {
        let text = self.tokenizer.decode(&self.pending)?;
        if text.ends_with(UNFINISHED) {
            return Ok(());
        }
        self.pending.clear();
        output::print(&text)
    }

    fn end(self) -> Result {
        self.written?;
        output::print(&self.tokenizer.decode(&self.pending)?)?;
        output::print("\n")
    }
}
