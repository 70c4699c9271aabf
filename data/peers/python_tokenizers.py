#!/usr/bin/env python3
"""Tokenizes a text with the Python package `tokenizers`: the peer of the example `tokenize` of dlt-data.

    python3 -m venv .venv-peer && .venv-peer/bin/pip install tokenizers
    .venv-peer/bin/python data/peers/python_tokenizers.py TEXT tokenizer.json --threads 2

The script reads the text line by line, with line ends, and encodes `--rows` lines per call with all threads. It counts the
ids and discards them; nothing is written. Time starts before the file is opened and ends after the last line. Before that,
the script loads the tokenizer and encodes a few lines, so that the threads have started.

--method encode_batch        the usual call: ids with offsets, words and masks
         encode_batch_fast   ids without offsets
--rows   lines per call

It prints one line of JSON: `peer`, `bytes`, `tokens`, `seconds`, `mb_per_s` and `peak_rss_mb` (both in units of 10^6 bytes).
"""

import argparse
import json
import os
import resource
from itertools import islice
from time import perf_counter


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("tokenizer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--method", choices=["encode_batch", "encode_batch_fast"], default="encode_batch")
    return parser.parse_args()


def main():
    args = arguments()
    # The package reads these when it first starts its threads, so they are set before the import.
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(args.tokenizer)
    encode = getattr(tokenizer, args.method)
    encode(["so that", "threads", "are there"])
    began, tokens, read = perf_counter(), 0, 0
    with open(args.text, encoding="utf-8", newline="\n") as text:
        while lines := list(islice(text, args.rows)):
            tokens += sum(len(encoding) for encoding in encode(lines, add_special_tokens=False))
            read += sum(map(len, lines))
    seconds = perf_counter() - began
    size = os.path.getsize(args.text)
    assert 0 < read <= size, "every character was read"
    print(json.dumps({
        "peer": f"tokenizers {tokenizers.__version__} {args.method}",
        "bytes": size,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "mb_per_s": round(size / 1e6 / seconds, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
    }))


if __name__ == "__main__":
    main()
