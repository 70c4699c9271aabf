//! What a run learns from.

use super::words_of;
use crate::fields::{Field, Interval, Values, toml_value};
use crate::spec::*;

pub(super) const DATA: &[Field] = &[
    field!(
        data.source,
        Values::Text,
        "What the run learns from: the name of a data set of `dlt data list` (shakespeare is \
         shipped), hf:OWNER/NAME[:CONFIG][:COLUMN], or the path of a file of text or rows, or of a \
         folder of such files. NAME@REVISION pins a commit."
    )
    .paper_says(
        "WikiText-2, WikiText-103, LAMBADA, 1-Billion-Word; Shakespeare",
        "Table 1; Table 4",
    ),
    field!(
        data.tokenizer,
        Values::Text,
        "gpt2, bytes, hf:OWNER/NAME, or the path of a tokenizer.json or of a folder that has one. \
         A run keeps a copy."
    )
    .paper_says("GPT-2's", "section 4, data sets"),
    field!(
        data.marks,
        words!(Marks),
        "Tokens that are put around a text: none, or template, which uses the tokenizer's template \
         (such as BOS, or CLS and SEP). An imported model, or the model that a run starts from, \
         brings its own value. The pipeline blocks has its own marks."
    ),
    field!(
        data.split,
        Values::Reals(3, Interval::FRACTION),
        "Fractions of a single text for training, validation and test. The parts are contiguous \
         and in this order, and the fractions add up to 1."
    ),
    field!(
        data.newlines,
        words!(Newlines),
        "What happens to CR LF, the line end of Windows, in a text: lf turns it into LF, keep \
         leaves it. Perplexities of the two are not comparable. A CR alone always stays."
    ),
    field!(
        data.on_bad_row,
        words!(OnBadRow),
        "What happens to a row of a table that has no text or cannot be read. stop: a row that \
         cannot be read is an error; a null or missing text is empty, or an error where classes \
         are predicted. skip: both are left out and counted."
    ),
    field!(
        data.csv_separator,
        words!(CsvSeparator),
        "Separator of the columns of CSV and TSV files. auto detects it in the first rows of a CSV \
         file and is a tab in TSV."
    ),
    field!(
        data.separator,
        words!(Separator),
        "What is put between two documents: the rows of a table, or the files of a folder of \
         texts. end-of-text is the tokenizer's token that ends a text. line is a line end, unless \
         the document already has one. auto is end-of-text between the rows of tables if the \
         tokenizer has that token, and line elsewhere and in the data sets of the catalogue."
    ),
    field!(
        data.pipeline,
        words!(Pipeline),
        "How a text becomes windows. stream: one stream of tokens, cut into windows of T + 1 \
         tokens that overlap by one. blocks: as in the authors' code, T - 1 tokens after BOS, with \
         labels that end with EOS."
    )
    .code_does("blocks"),
    field!(
        data.order,
        words!(Order),
        "Order in which windows are visited. pass shuffles all of them once a pass. sweep starts a \
         new shuffle at each visit of a layer and at each reward."
    )
    .code_does("sweep when layers are tied, pass when they are not"),
    field!(
        data.mask_share,
        Values::Real(Interval::FRACTION),
        "Share of the tokens that the objective masked-token predicts. Of these, 80 % are replaced \
         by the mask token and 10 % by a random token; 10 % stay as they are."
    ),
    field!(
        data.framing,
        words!(Framing),
        "How sentences are put into a window. marked puts the tokenizer's marks around and between \
         them and masks padding. bare is as in the authors' code: nothing between them, and the \
         window is filled up to T tokens with the end of text, which is not masked."
    )
    .code_does("bare"),
    field!(
        data.normalise,
        words!(Normalise),
        "How the pixels of pictures are normalised. own uses the mean and the standard deviation \
         of the data's channels, half uses 0.5 for both."
    )
    .code_does("half"),
    field!(
        data.augment,
        words!(Augment),
        "Random changes to training pictures. none: no change. flip: half of them are mirrored. \
         crop-flip: a border of an eighth of the side is added, the picture is cut out at a random \
         place, and half of them are mirrored."
    )
    .code_does("none"),
];
