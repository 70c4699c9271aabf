//! What a run learns from.

use serde::{Deserialize, Serialize};

/// Where tokens come from and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Name of a data set, or path of a UTF-8 file or of a folder of them.
    pub source: String,
    /// `gpt2`, `bytes`, or path of a `tokenizer.json`.
    pub tokenizer: String,
    /// Whether the tokens that the tokenizer's template puts around a text are put around it.
    pub marks: Marks,
    /// Fractions of a single text that train, validate and test; contiguous, in this order.
    pub split: [f64; 3],
    /// What becomes of CR LF in a text.
    pub newlines: Newlines,
    /// What becomes of a row that has no text or cannot be read.
    pub on_bad_row: OnBadRow,
    /// What separates the columns of CSV and TSV files.
    pub csv_separator: CsvSeparator,
    /// What is put between two documents.
    pub separator: Separator,
    /// How a text becomes windows.
    pub pipeline: Pipeline,
    /// In which order windows are visited.
    pub order: Order,
    /// Share of the tokens that the objective `masked-token` predicts.
    pub mask_share: f64,
    /// How sentences are put into a window.
    pub framing: Framing,
    /// How the pixels of pictures are normalised.
    pub normalise: Normalise,
    /// How training pictures are changed at random.
    pub augment: Augment,
}

words! {
    /// Which tokens are put around a text.
    Marks {
        /// None.
        None,
        /// Those of the tokenizer's template, as BOS, or CLS and SEP.
        Template,
    }
}

words! {
    /// What becomes of CR LF, the line end of Windows. A CR alone stays in both.
    Newlines {
        /// It becomes LF, so that a text has the same tokens whatever system wrote it.
        Lf,
        /// It stays.
        Keep,
    }
}

words! {
    /// What becomes of a row of a table that has no text or cannot be read.
    OnBadRow {
        /// A row that cannot be read stops the program; one whose text is null or missing is an
        /// empty text.
        Stop,
        /// Both are left out and counted.
        Skip,
    }
}

words! {
    /// What separates the columns of CSV and TSV files.
    CsvSeparator {
        /// A tab in TSV; in CSV what the first rows show.
        Auto,
        /// `,`
        Comma,
        /// `;`
        Semicolon,
        /// A tab.
        Tab,
        /// `|`
        Bar,
    }
}

words! {
    /// How sentences are put into a window (DEVIATIONS row 24).
    Framing {
        /// With the tokenizer's marks around and between, padding masked.
        Marked,
        /// The authors': nothing around or between, filled up to T tokens with the end of text,
        /// unmasked.
        Bare,
    }
}

words! {
    /// How the pixels of pictures are normalised.
    Normalise {
        /// By mean and deviation of the data's own channels.
        Own,
        /// By 0.5 and 0.5, from -1 to 1.
        Half,
    }
}

words! {
    /// How training pictures are changed at random.
    Augment {
        /// Not at all.
        None,
        /// Every other one is mirrored.
        Flip,
        /// Cut out of a border of an eighth of the side, and every other one mirrored.
        CropFlip,
    }
}

words! {
    /// What is put between two documents: the rows of a table, the files of a folder of texts.
    Separator {
        /// The end of text between the rows of tables, where the tokenizer has one; a line end
        /// elsewhere, and in the data sets of the catalogue.
        Auto,
        /// The tokenizer's token that ends a text.
        EndOfText,
        /// A line end, unless the document has one at its end.
        Line,
    }
}

words! {
    /// How a text becomes windows (method section 3, text pipeline).
    Pipeline {
        /// One continuous token stream, windows of T + 1 tokens that overlap by one.
        Stream,
        /// The authors': blocks of T - 1 tokens, each prefixed with BOS, labels shifted and ended
        /// with EOS.
        Blocks,
    }
}

words! {
    /// Order of the training windows (DEVIATIONS row 19).
    Order {
        /// Full passes, each a fresh seeded shuffle of all windows.
        Pass,
        /// The authors': each visit of a layer and each reward starts a fresh shuffle.
        Sweep,
    }
}
