#!/usr/bin/env python3
"""Measures generation by GPT-2 in transformers on the CPU: the peer of `dlt bench decode`, under the same conditions.

    python3 -m venv .venv-peer && .venv-peer/bin/pip install torch transformers
    .venv-peer/bin/python data/peers/transformers_decode.py --layers 12 --width 384 --heads 6

A model with random weights (`GPT2LMHeadModel`, no dropout) continues prompts by `generate`, with the most likely token
each time and with cached keys and values. Prefill is the time to the first new token. Decode counts the tokens after it and
the time that they add. The first run is left out, and figures are medians over the others.

--dtype  f32 | bf16        bf16: weights and activations

It prints one line of JSON: `peer`, `params`, `decode_tokens_per_s`, `prefill_ms`, `peak_rss_mb` (in units of 1024 KiB).
"""

import argparse
import json
import resource
import sys
from statistics import median
from time import perf_counter

import torch
import transformers

POSITIONS = 1024
SPREAD = 7919


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 12, "width": 384, "heads": 6, "vocab": 50257, "prompt-tokens": 32, "new-tokens": 128,
             "batch": 1, "runs": 4, "threads": 2}
    for flag, size in sizes.items():
        parser.add_argument(f"--{flag}", type=int, default=size)
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    chosen = parser.parse_args()
    for flag in sizes:
        if getattr(chosen, flag.replace("-", "_")) < 1:
            parser.error(f"--{flag}: expected 1 or more")
    if chosen.new_tokens < 2:
        parser.error("--new-tokens: expected 2 or more, because the first is part of prefill")
    if chosen.width % chosen.heads:
        parser.error("expected a width that is a multiple of --heads")
    return chosen


def random_model(chosen):
    config = transformers.GPT2Config(
        vocab_size=chosen.vocab,
        n_positions=max(POSITIONS, chosen.prompt_tokens + chosen.new_tokens),
        n_embd=chosen.width,
        n_layer=chosen.layers,
        n_head=chosen.heads,
        bos_token_id=None,
        eos_token_id=None,
    )
    dtype = torch.bfloat16 if chosen.dtype == "bf16" else torch.float32
    return transformers.GPT2LMHeadModel(config).to(dtype).eval()


def seconds(model, prompts, new_tokens):
    start = perf_counter()
    with torch.inference_mode():
        text = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            use_cache=True,
        )
    elapsed = perf_counter() - start
    assert text.shape[1] == prompts.shape[1] + new_tokens, "generate returned fewer tokens than requested"
    return elapsed


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    model = random_model(chosen)
    prompts = (torch.arange(chosen.batch * chosen.prompt_tokens) * SPREAD % chosen.vocab).view(chosen.batch, -1)
    prefill, rates = [], []
    for _ in range(chosen.runs):
        first = seconds(model, prompts, 1)
        rest = seconds(model, prompts, chosen.new_tokens) - first
        prefill.append(first)
        rates.append(chosen.batch * (chosen.new_tokens - 1) / rest)
    counted = slice(min(1, chosen.runs - 1), None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    peak_kib = peak / 1024 if sys.platform == "darwin" else peak
    print(json.dumps({
        "peer": f"transformers {transformers.__version__} pytorch {torch.__version__} {chosen.dtype} batch={chosen.batch}",
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "decode_tokens_per_s": round(median(rates[counted]), 1),
        "prefill_ms": round(1e3 * median(prefill[counted]), 1),
        "peak_rss_mb": round(peak_kib / 1024),
    }))


if __name__ == "__main__":
    main()
