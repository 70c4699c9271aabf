//! Tokens as a growing text: only whole characters, and only up to a stop text.

use dlt_data::Tokenizer;

use crate::failure::Result;

/// What a byte-level tokenizer decodes the first bytes of a character to, until the rest follows.
const UNFINISHED: char = '\u{fffd}';

/// Last tokens of the prompt that are decoded together with the continuation: whether there is a
/// space before a word may depend on the token before it.
const JOINT: usize = 8;

/// The continuation of a prompt.
pub(super) struct Text<'a> {
    tokenizer: &'a Tokenizer,
    stop: &'a [String],
    /// The last tokens of the prompt, and all that followed.
    ids: Vec<u32>,
    /// Tokens before this one are not decoded again. Those from here to `taken` are decoded once
    /// more together with the next ones.
    joint: usize,
    /// Tokens before this one are in `text`.
    taken: usize,
    text: String,
    /// Whether more tokens may follow.
    is_open: bool,
}

impl<'a> Text<'a> {
    /// An empty continuation of a prompt; it will end before the first of the stop texts.
    pub(super) fn new(tokenizer: &'a Tokenizer, stop: &'a [String], prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(JOINT)..].to_vec();
        let taken = ids.len();
        let text = String::new();
        Self { tokenizer, stop, ids, joint: 0, taken, text, is_open: true }
    }

    /// Adds the next token; returns whether the text continues.
    pub(super) fn push(&mut self, token: u32) -> Result<bool> {
        self.ids.push(token);
        let now = self.tokenizer.decode(&self.ids[self.joint..])?;
        // A character whose last bytes are still missing waits for them.
        if !now.ends_with(UNFINISHED) {
            self.take(&now)?;
        }

        Ok(self.is_open)
    }

    /// Adds what was held back, because no more tokens follow.
    pub(super) fn end(&mut self) -> Result {
        if self.is_open && self.taken < self.ids.len() {
            let now = self.tokenizer.decode(&self.ids[self.joint..])?;
            self.take(&now)?;
        }

        self.is_open = false;
        Ok(())
    }

    /// The text so far, without an end that may turn out to be the beginning of a stop text.
    pub(super) fn settled(&self) -> &str {
        let held_back = |stop: &String| {
            let begins = (1..stop.len()).rev().filter(|&length| stop.is_char_boundary(length));
            begins.into_iter().find(|&length| self.text.ends_with(&stop[..length])).unwrap_or(0)
        };

        if !self.is_open {
            return &self.text;
        }

        let held_back = self.stop.iter().map(held_back).max().unwrap_or(0);
        &self.text[..self.text.len() - held_back]
    }

    /// Adds what `now`, the tokens from the joint on, has beyond the text before.
    fn take(&mut self, now: &str) -> Result {
        let before = self.tokenizer.decode(&self.ids[self.joint..self.taken])?;
        let new =
            now.strip_prefix(&before).unwrap_or(&now[now.floor_char_boundary(before.len())..]);
        // A stop text may begin in the old text and end in the new one.
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let from = self.text.floor_char_boundary(self.text.len().saturating_sub(longest));

        self.text.push_str(new);
        self.joint = self.taken;
        self.taken = self.ids.len();

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
            let continues = text.push(byte.into()).expect("it decodes");
            steps.push(text.settled().to_owned());

            if !continues {
                break;
            }
        }

        text.end().expect("it decodes");
        steps.push(text.settled().to_owned());
        steps
    }

    #[test]
    fn a_character_is_shown_once_it_is_whole() {
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
