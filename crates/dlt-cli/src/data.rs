//! `dlt data`: lists, fetches and tokenizes data sets, cleans the cache, and trains tokenizers.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use dlt_data::catalogue::{CATALOGUE, LearningTask, find};
use dlt_data::{
    Cleaned, DataRequest, GPT2, Progress as Loading, Split, TokenSplits, TrainingRequest, clean,
    fetch, load_pictures, load_sentences, pinned, plan_folder, train_tokenizer, whole_tokens,
};
use dlt_run::Observer;
use dlt_spec::spec::{DataSpec, Spec};

use crate::failure::{Failure, Result};
use crate::hub::{self, Fetching};
use crate::numbers::{decimal, whole};
use crate::progress::{Progress, of_column};
use crate::table::Table;
use crate::{loading, output, plan, threads};

/// The text below the options in the help.
pub(crate) const HELP: &str = "\
NAME is one of:
  - a name of `dlt data list`;
  - hf:OWNER/NAME[:CONFIG][:COLUMN], any data set of the hub with a column of text;
  - the path of a file of text, JSON, CSV, TSV or Parquet, plain or in gzip or zstd;
  - the path of a folder of such files.
PATH::COLUMN names the column of a table.
NAME@REVISION, or --revision, pins a commit, a tag or a branch.

Files of a folder belong to the split (train, validation or test) that their name, or the name of
a folder, contains. Files that say no split are one text, which data.split cuts.
`dlt data info FOLDER` shows which file goes where. What is ambiguous is refused.

Examples:
  dlt data list
  dlt data info wikitext-2
  dlt data info my-folder
  dlt data fetch wikitext-2
  dlt data tokenize my.jsonl::body --tokenizer tokenizer.json
  dlt data tokenizer train my.txt --vocabulary 8000 --out tokenizer.json
  dlt train --data hf:someone/books:english --set data.tokenizer=tokenizer.json

Environment, as Python's huggingface_hub reads it: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN,
HF_TOKEN_PATH, HF_HUB_OFFLINE; and HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.
dlt finds what Python has fetched, and Python finds what dlt has fetched.
DLT_CACHE names the folder of cached tokens.
A split may become 1 GiB of tokens plus 64 times the size of its files.
DLT_CACHE_LIMIT=100GB sets another limit.";

/// Arguments of `dlt data`.
#[derive(Args, Debug)]
pub(crate) struct DataTask {
    #[command(subcommand)]
    task: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// List every data set that has a name here
    List,
    /// Print task, size, licence, splits and source of a data set, and what the paper reports on
    /// it; for a folder, print which file goes to which split
    Info {
        /// Name of the data set, or path of a folder or a file
        #[arg(value_name = "NAME|PATH")]
        name: String,
    },
    /// Fetch a data set from the hub, and print its commit and its files
    Fetch(FetchTask),
    /// Tokenize a text into the cache, and print how many tokens the text and each split have
    Tokenize(TokenizeTask),
    /// Empty the token cache; files that were fetched from the hub stay
    Clean,
    /// Make your own tokenizer
    Tokenizer(TokenizerTask),
}

#[derive(Args, Debug)]
struct FetchTask {
    /// Name of the data set
    name: String,
    /// Commit, tag or branch instead of the default one
    #[arg(long, value_name = "R")]
    revision: Option<String>,
}

#[derive(Args, Debug)]
struct TokenizeTask {
    /// Name or path of the text
    #[arg(value_name = "NAME|PATH")]
    source: String,
    /// gpt2, bytes, hf:OWNER/NAME, or the path of a tokenizer.json
    #[arg(long, value_name = "T", default_value = GPT2)]
    tokenizer: String,
    /// Commit, tag or branch instead of the default one
    #[arg(long, value_name = "R")]
    revision: Option<String>,
    /// Threads that tokenize [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Args, Debug)]
struct TokenizerTask {
    #[command(subcommand)]
    task: TokenizerCommand,
}

#[derive(Debug, Subcommand)]
enum TokenizerCommand {
    /// Make a byte-level BPE from the train split of a text
    Train(TokenizerTrainTask),
}

#[derive(Args, Debug)]
struct TokenizerTrainTask {
    /// Name or path of the text
    #[arg(value_name = "NAME|PATH")]
    source: String,
    /// Size of the vocabulary, at least 257
    #[arg(long, value_name = "V")]
    vocabulary: usize,
    /// File to write, a new tokenizer.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How often a pair must occur to become a token
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
}

pub(crate) fn run(task: &DataTask) -> Result {
    match &task.task {
        DataCommand::List => output::print(&list()),
        DataCommand::Info { name } => output::print(&info(name)?),
        DataCommand::Fetch(task) => fetch_set(task),
        DataCommand::Tokenize(task) => tokenize(task),
        DataCommand::Clean => clean_cache(),
        DataCommand::Tokenizer(TokenizerTask { task: TokenizerCommand::Train(task) }) => {
            make_tokenizer(task)
        }
    }
}

fn list() -> String {
    let mut text = String::new();
    for task in [LearningTask::LanguageModel, LearningTask::Classification, LearningTask::Images] {
        text.push_str(&format!("For {task}:\n"));
        for entry in CATALOGUE.iter().filter(|entry| entry.task == task) {
            text.push_str(&format!("  {:<17} {}\n", entry.name, entry.size));
        }
        text.push('\n');
    }

    text.push_str(
        "`dlt data info NAME` shows where it comes from and what the paper reports on it.\n",
    );

    text
}

fn info(name: &str) -> Result<String> {
    if find(name).is_none() && Path::new(name).exists() {
        return Ok(format!("{:<8} {name}\n{}", "path", plan::full(&plan_folder(Path::new(name))?)));
    }

    let entry = find(name).ok_or_else(|| {
        let known: Vec<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
        Failure::usage(format!(
            "{name:?} is neither a data set of the catalogue nor a path; the catalogue has: {}",
            known.join(", ")
        ))
    })?;

    let from = entry.repository.map_or("shipped with this program".to_owned(), |repository| {
        format!("{repository}, revision {}, configuration {}", entry.revision, entry.config)
    });
    let lines = [
        ("name", entry.name),
        ("for", entry.task.name()),
        ("size", entry.size),
        ("licence", entry.licence),
        ("splits", entry.splits),
        ("hub", &from),
        ("paper", entry.paper),
    ];

    Ok(lines.map(|(name, value)| format!("{name:<8} {value}\n")).concat())
}

fn fetch_set(task: &FetchTask) -> Result {
    let name = at_revision(&task.name, task.revision.as_deref())?;
    let cache = loading::cache()?;
    let shown = Fetching::default();
    let hub = hub::config()?.ok_or_else(|| {
        Failure::usage("no folder for files from the hub: set HF_HUB_CACHE, HF_HOME or HOME")
    })?;

    let fetched = fetch(&name, &hub, cache.as_deref(), &|event| shown.show(event))?;
    let mut text = format!("{} at {}\n", fetched.provenance.repository, fetched.provenance.commit);
    for file in &fetched.files {
        text.push_str(&format!("  {}\n", file.display()));
    }

    output::print(&text)
}

fn at_revision(name: &str, revision: Option<&str>) -> Result<String> {
    Ok(revision.map_or_else(|| Ok(name.to_owned()), |revision| pinned(name, revision))?)
}

fn tokenize(task: &TokenizeTask) -> Result {
    let source = at_revision(&task.source, task.revision.as_deref())?;
    let data = DataSpec { source, tokenizer: task.tokenizer.clone(), ..Spec::default().data };
    let task_of = |name: &str| find(name.split('@').next().unwrap_or(name)).map(|entry| entry.task);

    match task_of(&data.source) {
        Some(LearningTask::Classification) => return output::print(&sentences(&data)?),
        Some(LearningTask::Images) => return output::print(&pictures(&data)?),
        _ => {}
    }

    let hub = hub::config()?;
    let cache = loading::cache()?;

    // 1 is the shortest window: splits of as few as two tokens can then be counted.
    let request = DataRequest {
        cache: cache.as_deref(),
        hub: hub.as_ref(),
        threads: threads::bounded(task.threads),
        limit: loading::limit()?,
        ..DataRequest::new(&data, 1)
    };

    let progress = Progress::new(false);
    // Bytes of each split so far. The last event of a split repeats its total, so sums would count
    // it twice.
    let began = Instant::now();
    let mut encoded = [0; 3];

    let splits = dlt_data::load(&request, &mut |loading| {
        if let Loading::Tokenizing { split, bytes, .. } = &loading {
            encoded[*split as usize] = *bytes;
        }
        progress.loading(loading);
    })?;

    let seconds = began.elapsed().as_secs_f64();
    progress.end();

    let tokenizer = loading::tokenizer(&data.tokenizer)?;
    let all = whole_tokens(&request, &splits, &tokenizer, &mut |_| ())?;
    let mut text = counts(&splits, all);
    let encoded = encoded.iter().sum::<usize>();

    if encoded > 0 {
        let speed = decimal(encoded as f64 / 1e6 / seconds.max(1e-9), 1);
        text.push_str(&format!(
            "tokenized {} MB in {} s, {speed} MB/s\n",
            decimal(encoded as f64 / 1e6, 1),
            decimal(seconds, 1)
        ));
    }

    output::print(&text)
}

fn counts(splits: &TokenSplits, all: Option<usize>) -> String {
    let mut table = Table::new(&["", "tokens", "bytes"]);
    let provenance = &splits.provenance;
    let sum: usize = provenance.splits.iter().map(|split| split.bytes).sum();

    table.row(["whole text", &all.map_or("not counted".to_owned(), whole), &whole(sum)]);
    for split in &provenance.splits {
        table.row([split.split.name(), &whole(split.tokens), &whole(split.bytes)]);
    }

    let mut text = table.render();
    text.push_str(&format!(
        "tokenizer {}, vocabulary {}\n",
        provenance.tokenizer,
        whole(splits.vocabulary)
    ));

    if let Some(column) = &provenance.column {
        text.push_str(&format!("{}\n", of_column(column)));
    }
    if let Some(hub) = &provenance.hub {
        text.push_str(&format!("{} at {}\n", hub.repository, hub.commit));
    }

    text
}

fn sentences(data: &DataSpec) -> Result<String> {
    let hub = hub::config()?;
    let cache = loading::cache()?;
    let progress = Progress::new(false);
    let splits = load_sentences(data, hub.as_ref(), cache.as_deref(), &mut |loading| {
        progress.loading(loading)
    })?;

    let tokenizer = loading::tokenizer(&data.tokenizer)?;
    let tokens = |text: &str| -> Result<usize> { Ok(tokenizer.encode(text)?.len()) };
    let mut table = Table::new(&["", "examples", "tokens", "longest"]);

    for split in Split::ALL {
        let mut lengths: Vec<usize> = Vec::new();
        for example in splits.split(split) {
            let first = tokens(&example.first)?;
            lengths.push(first + example.second.as_deref().map_or(Ok(0), tokens)?);
        }

        let longest = lengths.iter().max().copied().unwrap_or(0);
        table.row([
            split.name(),
            &whole(lengths.len()),
            &whole(lengths.iter().sum::<usize>()),
            &whole(longest),
        ]);
    }

    Ok(format!("{}{} classes\n", table.render(), splits.classes))
}

fn pictures(data: &DataSpec) -> Result<String> {
    let hub = hub::config()?;
    let cache = loading::cache()?;
    let progress = Progress::new(false);
    let splits =
        load_pictures(&data.source, data.split, hub.as_ref(), cache.as_deref(), &mut |loading| {
            progress.loading(loading)
        })?;

    let mut table = Table::new(&["", "pictures"]);
    for split in Split::ALL {
        table.row([split.name(), &whole(splits.split(split).len())]);
    }

    Ok(table.render())
}

fn clean_cache() -> Result {
    let Some(cache) = loading::cache()? else { return output::print("there is no token cache\n") };
    let Cleaned { files, bytes } = clean(&cache)?;
    let megabytes = decimal(bytes as f64 / 1e6, 1);

    output::print(&format!(
        "removed {} files, {megabytes} MB, from {}\n",
        whole(files),
        cache.display()
    ))
}

fn make_tokenizer(task: &TokenizerTrainTask) -> Result {
    if task.out.exists() {
        let out = task.out.display();
        return Err(Failure::usage(format!("{out} already exists: name a new file, or remove it")));
    }

    let hub = hub::config()?;
    let cache = loading::cache()?;
    let progress = Progress::new(false);
    let request = TrainingRequest {
        source: &task.source,
        split: Spec::default().data.split,
        vocabulary: task.vocabulary,
        min_frequency: task.min_frequency,
        hub: hub.as_ref(),
        cache: cache.as_deref(),
    };

    let tokenizer = train_tokenizer(&request, &mut |loading| progress.loading(loading))?;
    progress.end();
    tokenizer.save(&task.out)?;

    let size = whole(tokenizer.vocabulary());
    let out = task.out.display();
    output::print(&format!("{size} tokens in {out}; train with --set data.tokenizer={out}\n"))
}
