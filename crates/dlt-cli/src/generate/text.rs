//! Tokens as a text that grows: whole characters only, and only up to a stop text.

use dlt_data::Tokenizer;

use crate::failure::Result;

/// What a byte-level tokenizer gives for the first bytes of a character whose others are still to
/// come.
const UNFINISHED: char = '\u{fffd}';

/// Tokens of the prompt that what follows is joined on to: spaces between words may hang on the one
/// before.
const JOINT: usize = 8;

/// The continuation of a prompt.
pub(super) struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    /// The last tokens of the prompt, and all that followed.
    ids: Vec<u32>,
    /// Tokens before this one are settled; those from here to `taken` are what the next ones are
    /// joined on to.
    joint: usize,
    /// Tokens up to here are in `text`.
    taken: usize,
    text: String,
    is_open: bool,
}

impl<'a> Text<'a> {
    /// What follows a prompt, up to the first of the stop texts.
    pub(super) fn new(tokenizer: &'a Tokenizer, stop: &'a [String], prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(JOINT)..].to_vec();
        let taken = ids.len();
        let text = String::new();
        Self { tokenizer, stop, ids, joint: 0, taken, text, is_open: true }
    }

    /// Takes the next token; whether the text goes on.
    pub(super) fn push(&mut self, token: u32) -> Result<bool> {
        self.ids.push(token);
        let now = self.tokenizer.decode(&self.ids[self.joint..])?;
        if !now.ends_with(UNFINISHED) {
            self.take(&now)?;
        }

        Ok(self.is_open)
    }

    /// Takes what was held back: there will be no more.
    pub(super) fn end(&mut self) -> Result {
        if self.is_open && self.taken < self.ids.len() {
            let now = self.tokenizer.decode(&self.ids[self.joint..])?;
            self.take(&now)?;
        }

        self.is_open = false;
        Ok(())
    }

    /// What there is of the text, but for an end that may become a stop text.
    pub(super) fn settled(&self) -> &str {
        let held_back = |stop: &String| {
            let begins = (1..stop.len()).rev().filter(|&length| stop.is_char_boundary(length));
            begins.into_iter().find(|&length| self.text.ends_with(&stop[..length])).unwrap_or(0)
        };

        match self.is_open {
            true => {
                &self.text[..self.text.len() - self.stop.iter().map(held_back).max().unwrap_or(0)]
            }
            false => &self.text,
        }
    }

    /// Adds what the tokens from the joint say beyond what is there.
    fn take(&mut self, now: &str) -> Result {
        let before = self.tokenizer.decode(&self.ids[self.joint..self.taken])?;
        let new =
            now.strip_prefix(&before).unwrap_or(&now[now.floor_char_boundary(before.len())..]);
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = self.text.floor_char_boundary(self.text.len().saturating_sub(longest));

        self.text.push_str(new);
        (self.joint, self.taken) = (self.taken, self.ids.len());

        if let Some(at) = self.stop.iter().filter_map(|stop| self.text[from..].find(stop)).min() {
            self.text.truncate(from + at);
            self.is_open = false;
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can be read after each token, and at the end.
    fn steps(continuation: &[u8], stop: &[&str]) -> Vec<String> {
        let tokenizer = Tokenizer::bytes().expect("it is built in");
        let stop: Vec<String> = stop.iter().map(ToString::to_string).collect();
        let mut text = Text::new(&tokenizer, &stop, &[65]);
        let mut steps = Vec::new();

        for &byte in continuation {
            let goes_on = text.push(byte.into()).expect("it decodes");
            steps.push(text.settled().to_owned());

            if !goes_on {
                break;
            }
        }

        text.end().expect("it decodes");
        steps.push(text.settled().to_owned());
        steps
    }

    #[test]
    fn a_character_comes_once_it_is_whole() {
        assert_eq!(steps("aé€".as_bytes(), &[]), ["a", "a", "aé", "aé", "aé", "aé€", "aé€"]);
        assert_eq!(steps(b"a\xe2\x82", &[]), ["a", "a", "a", "a\u{fffd}"]);
        assert_eq!(steps(b"\xffa", &[]), ["", "\u{fffd}a", "\u{fffd}a"]);
    }

    #[test]
    fn a_text_ends_before_the_first_stop_text() {
        assert_eq!(
            steps(b"one.\n\ntwo", &["\n\n", "w"]),
            ["o", "on", "one", "one.", "one.", "one.", "one."]
        );
        assert_eq!(steps(b"aab!", &["ab"]), ["", "a", "a", "a"]);
        assert_eq!(steps("né".as_bytes(), &["é"]), ["n", "n", "n", "n"]);
    }

    #[test]
    fn what_does_not_become_a_stop_text_is_shown() {
        assert_eq!(steps(b"xab", &["abc"]), ["x", "x", "x", "xab"]);
        assert_eq!(steps(b"abd", &["abc"]), ["", "", "abd", "abd"]);
    }
}
