//! What a run learns from.

use serde::{Deserialize, Serialize};

/// Where tokens come from and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Name of a data set, `hf:OWNER/NAME`, or path of a file of text or rows or of a folder of
    /// such files.
    pub source: String,
    /// `gpt2`, `bytes`, `hf:OWNER/NAME`, or path of a `tokenizer.json` or of a folder that has one.
    pub tokenizer: String,
    /// Which tokens of the tokenizer's template are put around a text.
    pub marks: Marks,
    /// Fractions of a single text for training, validation and test; contiguous, in this order.
    pub split: [f64; 3],
    /// What happens to CR LF in a text.
    pub newlines: Newlines,
    /// What happens to a row that has no text or cannot be read.
    pub on_bad_row: OnBadRow,
    /// Separator of the columns of CSV and TSV files.
    pub csv_separator: CsvSeparator,
    /// What is put between two documents.
    pub separator: Separator,
    /// How a text becomes windows.
    pub pipeline: Pipeline,
    /// Order in which windows are visited.
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
        /// Those of the tokenizer's template, such as BOS, or CLS and SEP.
        Template,
    }
}

words! {
    /// What happens to CR LF, the line end of Windows. A CR alone always stays.
    Newlines {
        /// It becomes LF, so that a text has the same tokens whatever system wrote it.
        Lf,
        /// It stays as it is.
        Keep,
    }
}

words! {
    /// What happens to a row of a table that has no text or cannot be read.
    OnBadRow {
        /// A row that cannot be read stops the program. A null or missing text is an empty text, or
        /// where classes are predicted stops the program too.
        Stop,
        /// Both are left out and counted.
        Skip,
    }
}

words! {
    /// Separator of the columns of CSV and TSV files.
    CsvSeparator {
        /// A tab in TSV; in CSV the one that the first rows show.
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
        /// The tokenizer's marks are around and between the sentences; padding is masked.
        Marked,
        /// As in the authors' code: nothing around or between the sentences. The window is filled
        /// up to T tokens with the end of text, which is not masked.
        Bare,
    }
}

words! {
    /// How the pixels of pictures are normalised.
    Normalise {
        /// By the mean and the standard deviation of the data's channels.
        Own,
        /// By a mean and a deviation of 0.5, which gives numbers from -1 to 1.
        Half,
    }
}

words! {
    /// How training pictures are changed at random.
    Augment {
        /// Not at all.
        None,
        /// Half of them are mirrored.
        Flip,
        /// A border of an eighth of the side is added and the picture is cut out at a random place;
        /// half of them are mirrored.
        CropFlip,
    }
}

words! {
    /// What is put between two documents: the rows of a table, or the files of a folder of texts.
    Separator {
        /// The end of text between the rows of tables, if the tokenizer has one. A line end
        /// elsewhere, and in the data sets of the catalogue.
        Auto,
        /// The tokenizer's token that ends a text.
        EndOfText,
        /// A line end, unless the document already ends with one.
        Line,
    }
}

words! {
    /// How a text becomes windows (DEVIATIONS row 19).
    Pipeline {
        /// One continuous token stream, cut into windows of T + 1 tokens that overlap by one.
        Stream,
        /// As in the authors' code: blocks of T - 1 tokens, each after a BOS, with shifted labels
        /// that end with EOS.
        Blocks,
    }
}

words! {
    /// Order of the training windows (DEVIATIONS row 19).
    Order {
        /// Full passes, each a fresh seeded shuffle of all windows.
        Pass,
        /// As in the authors' code: each visit of a layer and each reward starts a new shuffle.
        Sweep,
    }
}
