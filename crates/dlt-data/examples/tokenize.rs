//! Tokenizes a text into a cache, and prints the speed and the peak memory:
//!
//! ```sh
//! cargo run --release -p dlt-data --example tokenize -- PATH CACHE THREADS [TOKENIZER]
//! ```
#![allow(clippy::print_stdout, reason = "figures are what this program is for")]

use dlt_data::{DataRequest, GPT2, Split, load};
use dlt_spec::Spec;
use dlt_spec::spec::DataSpec;
use std::{env, error::Error, path::PathBuf, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, cache, threads, rest @ ..] = arguments.as_slice() else {
        return Err("expected PATH CACHE THREADS [TOKENIZER]".into());
    };
    let tokenizer = rest.first().map_or(GPT2, String::as_str).to_owned();
    let data = DataSpec { source: path.clone(), tokenizer, ..Spec::default().data };

    let cache = PathBuf::from(cache);
    let request = DataRequest {
        cache: Some(&cache),
        threads: Some(threads.parse()?),
        ..DataRequest::new(&data, 1)
    };

    let began = Instant::now();
    let splits = load(&request, &mut |_| ())?;
    let seconds = began.elapsed().as_secs_f64();
    let bytes: usize = splits.provenance.splits.iter().map(|split| split.bytes).sum();
    let tokens = Split::ALL.map(|split| splits.split(split).len());
    let speed = bytes as f64 / 1e6 / seconds;

    println!(
        "{bytes} bytes, {tokens:?} tokens, {seconds:.2} s, {speed:.1} MB/s, peak {:.0} MB",
        peak_mb()
    );

    Ok(())
}

/// Peak resident memory so far in 10^6 bytes, as Linux reports it; 0 elsewhere.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.map_or(0.0, |kib| kib * 1024.0 / 1e6)
}
