//! What a run learns from.

use serde::{Deserialize, Serialize};

use crate::fields::{Interval, Values};

section! {
    /// Where tokens come from and in which order.
    DataSpec in [data.] {
        /// What the run learns from: the name of a data set of `dlt data list` (shakespeare is
        /// shipped), hf:OWNER/NAME[:CONFIG][:COLUMN], or the path of a file of text or rows, or of
        /// a folder of such files. NAME@REVISION pins a commit.
        source: String = "shakespeare".into(), Values::Text,
            paper_says(
                "WikiText-2, WikiText-103, LAMBADA, 1-Billion-Word; Shakespeare",
                "Table 1; Table 4"
            );
        /// gpt2, bytes, hf:OWNER/NAME, or the path of a tokenizer.json or of a folder that has one.
        /// A run keeps a copy.
        tokenizer: String = "gpt2".into(), Values::Text,
            paper_says("GPT-2's", "section 4, data sets");
        /// Tokens that are put around a text: none, or template, which uses the tokenizer's
        /// template (such as BOS, or CLS and SEP). An imported model, or the model that a run
        /// starts from, brings its own value. The pipeline blocks has its own marks.
        marks: Marks = Marks::None, Marks::WORDS;
        /// Fractions of a single text for training, validation and test. The parts are contiguous
        /// and in this order, and the fractions add up to 1.
        split: [f64; 3] = [0.9, 0.05, 0.05], Values::Reals(3, Interval::FRACTION);
        /// What happens to CR LF, the line end of Windows, in a text: lf turns it into LF, keep
        /// leaves it. Perplexities of the two are not comparable. A CR alone always stays.
        newlines: Newlines = Newlines::Lf, Newlines::WORDS;
        /// What happens to a row of a table that has no text or cannot be read. stop: a row that
        /// cannot be read is an error; a null or missing text is empty, or an error where classes
        /// are predicted. skip: both are left out and counted.
        on_bad_row: OnBadRow = OnBadRow::Stop, OnBadRow::WORDS;
        /// Separator of the columns of CSV and TSV files. auto detects it in the first rows of a
        /// CSV file and is a tab in TSV.
        csv_separator: CsvSeparator = CsvSeparator::Auto, CsvSeparator::WORDS;
        /// What is put between two documents: the rows of a table, or the files of a folder of
        /// texts. end-of-text is the tokenizer's token that ends a text. line is a line end, unless
        /// the document already has one. auto is end-of-text between the rows of tables if the
        /// tokenizer has that token, and line elsewhere and in the data sets of the catalogue.
        separator: Separator = Separator::Auto, Separator::WORDS;
        /// How a text becomes windows. stream: one stream of tokens, cut into windows of T + 1
        /// tokens that overlap by one. blocks: as in the authors' code, T - 1 tokens after BOS,
        /// with labels that end with EOS.
        pipeline: Pipeline = Pipeline::Stream, Pipeline::WORDS, code_does("blocks");
        /// Order in which windows are visited. pass shuffles all of them once a pass. sweep starts
        /// a new shuffle at each visit of a layer and at each reward.
        order: Order = Order::Pass, Order::WORDS,
            code_does("sweep when layers are tied, pass when they are not");
        /// Share of the tokens that the objective masked-token predicts. Of these, 80 % are
        /// replaced by the mask token and 10 % by a random token; 10 % stay as they are.
        mask_share: f64 = 0.15, Values::Real(Interval::FRACTION);
        /// How sentences are put into a window. marked puts the tokenizer's marks around and
        /// between them and masks padding. bare is as in the authors' code: nothing between them,
        /// and the window is filled up to T tokens with the end of text, which is not masked.
        framing: Framing = Framing::Marked, Framing::WORDS, code_does("bare");
        /// How the pixels of pictures are normalised. own uses the mean and the standard deviation
        /// of the data's channels, half uses 0.5 for both.
        normalise: Normalise = Normalise::Own, Normalise::WORDS, code_does("half");
        /// Random changes to training pictures. none: no change. flip: half of them are mirrored.
        /// crop-flip: a border of an eighth of the side is added, the picture is cut out at a
        /// random place, and half of them are mirrored.
        augment: Augment = Augment::None, Augment::WORDS, code_does("none");
    }
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
