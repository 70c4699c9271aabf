//! The speed at which prompts are read and texts are written.

use std::time::Instant;

use dlt_models::generation::Event;

use crate::numbers::{decimal, whole};

/// A number of tokens and the time that they took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
}

impl Pace {
    pub(crate) fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }
}

/// The pace of reading and of writing, measured between events.
pub(crate) struct Speed {
    last: Instant,
    pub(crate) reading: Pace,
    /// Without the first token of each text: reading the prompt already computes it.
    pub(crate) writing: Pace,
    /// Whether the next token is such a first one.
    is_first: bool,
}

impl Speed {
    pub(crate) fn start() -> Self {
        let reading = Pace::default();
        let writing = Pace::default();
        Self { last: Instant::now(), reading, writing, is_first: false }
    }

    /// Counts an event of a text whose prompt has so many tokens.
    pub(crate) fn take(&mut self, event: Event, prompt_tokens: usize) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.last = now;

        if event == Event::Read {
            self.reading.tokens += prompt_tokens;
            self.reading.seconds += seconds;
            self.is_first = true;
            return;
        }

        self.writing.seconds += seconds;
        if let Event::Token(_) = event {
            self.writing.tokens += usize::from(!std::mem::take(&mut self.is_first));
        }
    }

    /// Both paces, in words.
    pub(crate) fn sentence(&self) -> String {
        let of = |pace: &Pace| {
            format!("{} tokens at {} a second", whole(pace.tokens), decimal(pace.tokens_per_s(), 1))
        };
        format!("read {}, wrote {}", of(&self.reading), of(&self.writing))
    }
}
