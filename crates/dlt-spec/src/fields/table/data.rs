//! What it learns from.

use super::words_of;
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

pub(super) const DATA: &[Field] = &[
    field!(
        data.source,
        Values::Text,
        "Name of a data set of `dlt data list` (shakespeare is shipped), hf:OWNER/NAME[:CONFIG][:COLUMN], or path of \
         a file of text or rows or of a folder of them; NAME@REVISION pins a commit."
    )
    .paper_says("WikiText-2, WikiText-103, LAMBADA, 1-Billion-Word; Shakespeare", "Table 1; Table 4"),
    field!(
        data.tokenizer,
        Values::Text,
        "gpt2, bytes, hf:OWNER/NAME, or path of a tokenizer.json or of a folder that has one; a run keeps a copy."
    )
    .paper_says("GPT-2's", "section 4, data sets"),
    field!(
        data.marks,
        words!(Marks),
        "Which tokens are put around a text: none, or those of the tokenizer's template, as BOS, or CLS and SEP. A          model that is imported, or that a run starts from, brings its own value. Blocks have their own."
    ),
    field!(
        data.split,
        Values::Reals(3, Interval::FRACTION),
        "Fractions of a single text that train, validate and test; contiguous, in this order; their sum is \
         1."
    ),
    field!(
        data.newlines,
        words!(Newlines),
        "What becomes of CR LF, the line end of Windows, in a text: lf makes it LF, keep leaves it. Perplexities of the \
         two are not comparable. A CR alone stays."
    ),
    field!(
        data.on_bad_row,
        words!(OnBadRow),
        "What becomes of a row of a table that has no text or cannot be read: with stop, a row that cannot be read is \
         an error, and a null or missing text is empty, or with classes an error; skip leaves out both and counts them."
    ),
    field!(
        data.csv_separator,
        words!(CsvSeparator),
        "What separates the columns of CSV and TSV files: auto finds it in the first rows of CSV and is a tab in TSV."
    ),
    field!(
        data.separator,
        words!(Separator),
        "What is put between two documents, the rows of a table or the files of a folder of texts: end-of-text is the \
         tokenizer's token that ends a text; line is a line end, unless there is one; auto is end-of-text between the rows \
         of tables, where the tokenizer has it, and line elsewhere and in the data sets of the catalogue."
    ),
    field!(
        data.pipeline,
        words!(Pipeline),
        "How a text becomes windows: stream is one run of tokens cut into windows of T + 1 that overlap by \
         one; blocks is the authors': T - 1 tokens after BOS, labels ended with EOS."
    )
    .code_does("blocks"),
    field!(
        data.order,
        words!(Order),
        "In which order windows are visited: pass shuffles all of them once a pass; sweep starts a fresh \
         shuffle at each visit of a layer and at each reward."
    )
    .code_does("sweep when layers are tied, pass when they are not"),
    field!(
        data.mask_share,
        Values::Real(Interval::FRACTION),
        "Share of the tokens that the objective masked-token predicts; of them 80 % are replaced by the mask, 10 % by a \
         random token, 10 % left."
    ),
    field!(
        data.framing,
        words!(Framing),
        "How sentences are put into a window: marked has the tokenizer's marks around and between and hides padding; \
         bare is the authors': nothing between, filled up to T tokens with the end of text, which is seen."
    )
    .code_does("bare"),
    field!(
        data.normalise,
        words!(Normalise),
        "How the pixels of pictures are normalised: own takes mean and deviation of the data's channels, half 0.5 and \
         0.5."
    )
    .code_does("half"),
    field!(
        data.augment,
        words!(Augment),
        "How training pictures are changed at random: not, mirrored, or cut out of a border of an eighth of the side \
         and mirrored."
    )
    .code_does("none"),
];
