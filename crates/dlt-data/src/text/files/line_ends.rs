//! Converts CR LF, the line end of Windows, to LF.

use super::{Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use dlt_spec::spec::Newlines;

/// Converts line ends piece by piece. A line end may be cut by the end of a piece.
pub(super) struct LineEnds {
    newlines: Newlines,
    /// Whether the last piece ended in a CR that has not been handed on.
    is_held: bool,
    text: String,
}

impl LineEnds {
    pub(super) fn new(newlines: Newlines) -> Self {
        Self { newlines, is_held: false, text: String::new() }
    }

    /// Hands a piece to `sink` with its line ends converted.
    pub(super) fn pass(&mut self, piece: Piece<'_>, sink: Sink<'_>) -> Result<Flow, DataError> {
        if self.newlines == Newlines::Keep || !(self.is_held || piece.text.contains('\r')) {
            return sink(piece);
        }

        self.text.clear();
        if self.is_held {
            self.text.push('\r');
        }

        self.text.push_str(piece.text);
        // A CR at the end of an unfinished row is held back: the next piece may begin with its LF.
        self.is_held = piece.kind == PieceKind::Begins && self.text.ends_with('\r');

        if self.is_held {
            self.text.pop();
        }

        sink(Piece { text: &self.text.replace("\r\n", "\n"), kind: piece.kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn passed(newlines: Newlines, pieces: &[&str]) -> String {
        let mut ends = LineEnds::new(newlines);
        let mut text = String::new();
        let mut sink = |piece: Piece<'_>| {
            text.push_str(piece.text);
            Ok(Flow::On)
        };

        for piece in pieces {
            ends.pass(Piece { text: piece, kind: PieceKind::Begins }, &mut sink).unwrap();
        }

        ends.pass(Piece { text: "", kind: PieceKind::Ends }, &mut sink).unwrap();
        text
    }

    proptest! {
        #[test]
        fn law_line_ends_do_not_depend_on_where_a_text_is_cut(
            pieces in proptest::collection::vec("[a\r\n]{0,4}", 0..8),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let whole = pieces.concat();
            prop_assert_eq!(passed(Newlines::Lf, &pieces), whole.replace("\r\n", "\n"));
            prop_assert_eq!(passed(Newlines::Keep, &pieces), whole);
        }
    }
}
