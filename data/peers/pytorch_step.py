#!/usr/bin/env python3
"""Measures a training step of GPT-2 in PyTorch: the peer of `dlt bench step`, under the same conditions.

    python3 -m venv .venv-peer && .venv-peer/bin/pip install torch numpy
    .venv-peer/bin/python data/peers/pytorch_step.py --layers 12 --width 384 --heads 6 --seq 256 --batch 8

A step is forward, loss, backward, clipping of the global norm at 1.0 and AdamW (rate 1e-4, weight decay 0.01). It runs
on random tokens, so it measures speed and memory, and trains nothing. The model has pre-norm blocks, biases, the tanh
GELU, 1024 learned positions, a head tied to the token table, and no dropout.

--mode   eager | compile   compile is torch.compile, which needs a C++ compiler (g++)
--dtype  f32 | bf16        bf16 is autocast: weights, gradients and moments stay f32
--tying  none              every layer trains its own weights
         sum               a layer uses its owner's weights, and the gradients of all members are summed
         owner             the same, but only the owner's own position gives the weights a gradient
--owners 0,0,2,...         the owner of each layer; by default layer 0 owns all layers
--device cpu | cuda[:N]    on a GPU, a step ends when the GPU has finished its work
--tf32                     on a GPU, products of f32 may round their factors to TF32

It prints one line of JSON: `peer`, `params` (distinct trainable numbers), `step_ms_median` (without the first step, which
allocates and compiles), `tokens_per_s`, `peak_rss_mb` (in units of 1024 KiB), `peak_device_mb` (the most GPU memory that
PyTorch held, in the same units; null on the CPU), `peak_device_used_mb` (the most of it that tensors used), and the `loss`
of the last step.
"""

import argparse
import json
import resource
import sys
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional

POSITIONS = 1024
DEVIATION = 0.02
CLIP_NORM = 1.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 12, "width": 384, "heads": 6, "seq": 256, "batch": 8, "vocab": 50257, "steps": 6, "threads": 2}
    for flag, size in sizes.items():
        parser.add_argument(f"--{flag}", type=int, default=size)
    parser.add_argument("--mode", choices=("eager", "compile"), default="eager")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--tying", choices=("none", "sum", "owner"), default="none")
    parser.add_argument("--owners", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true")
    chosen = parser.parse_args()
    if chosen.device.split(":")[0] not in ("cpu", "cuda"):
        parser.error(f"--device: expected cpu, cuda or cuda:N, got {chosen.device}")
    if chosen.device != "cpu" and not torch.cuda.is_available():
        parser.error("--device: PyTorch finds no GPU, or was built without CUDA")
    if chosen.tf32 and chosen.device == "cpu":
        parser.error("--tf32: expected a GPU, got cpu")
    for flag in sizes:
        if getattr(chosen, flag) < 1:
            parser.error(f"--{flag}: expected 1 or more")
    if chosen.steps < 2:
        parser.error("--steps: expected 2 or more, because the first step is left out")
    if chosen.width % chosen.heads or chosen.seq > POSITIONS:
        parser.error(f"expected a width that is a multiple of --heads and a --seq of at most {POSITIONS}")
    try:
        chosen.state = state(chosen)
    except ValueError as error:
        parser.error(f"--owners: {error}")
    return chosen


def state(chosen):
    """The owner of each layer."""
    if chosen.tying == "none":
        return list(range(chosen.layers))
    owners = [int(word) for word in chosen.owners.split(",")] if chosen.owners else [0] * chosen.layers
    if len(owners) != chosen.layers:
        raise ValueError(f"expected an owner for each of {chosen.layers} layers, got {len(owners)}")
    for layer, owner in enumerate(owners):
        if not 0 <= owner <= layer or owners[owner] != owner:
            raise ValueError(f"layer {layer}: expected an owner up to the layer that owns itself, got {owner}")
    return owners


def matrix(rows, columns):
    return nn.Parameter(torch.randn(rows, columns) * DEVIATION)


class Weights(nn.ParameterDict):
    """The weights of one block, named for what they do. A vector of biases ends in `_b`."""

    def __init__(self, width):
        super().__init__()
        for name, rows, columns in (
            ("attend", 3 * width, width),
            ("merge", width, width),
            ("widen", 4 * width, width),
            ("narrow", width, 4 * width),
        ):
            self[name] = matrix(rows, columns)
            self[name + "_b"] = nn.Parameter(torch.zeros(rows))
        for name in ("first_norm", "second_norm"):
            self[name] = nn.Parameter(torch.ones(width))
            self[name + "_b"] = nn.Parameter(torch.zeros(width))


def block(weights, hidden, heads, contributes):
    """One block. A position that does not contribute passes the gradient on, but gives the weights none."""

    def pair(name):
        both = weights[name], weights[name + "_b"]
        return both if contributes else tuple(part.detach() for part in both)

    def affine(name, value):
        return functional.linear(value, *pair(name))

    def normal(name, value):
        return functional.layer_norm(value, value.shape[-1:], *pair(name))

    batch, tokens, width = hidden.shape
    parts = affine("attend", normal("first_norm", hidden)).chunk(3, dim=-1)
    query, key, value = (part.view(batch, tokens, heads, -1).transpose(1, 2) for part in parts)
    seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    hidden = hidden + affine("merge", seen.transpose(1, 2).reshape(batch, tokens, width))
    wide = functional.gelu(affine("widen", normal("second_norm", hidden)), approximate="tanh")
    return hidden + affine("narrow", wide)


class Model(nn.Module):
    def __init__(self, chosen):
        super().__init__()
        self.heads, self.tying, self.state = chosen.heads, chosen.tying, chosen.state
        self.table = matrix(chosen.vocab, chosen.width)
        self.positions = matrix(POSITIONS, chosen.width)
        self.bank = nn.ModuleDict({str(owner): Weights(chosen.width) for owner in sorted(set(chosen.state))})
        self.norm = nn.LayerNorm(chosen.width)

    def forward(self, ids, targets):
        hidden = functional.embedding(ids, self.table) + self.positions[: ids.shape[1]]
        for layer, owner in enumerate(self.state):
            contributes = self.tying != "owner" or owner == layer
            hidden = block(self.bank[str(owner)], hidden, self.heads, contributes)
        logits = functional.linear(self.norm(hidden), self.table)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def measure(chosen):
    """Seconds of each step, and the last loss."""
    device = torch.device(chosen.device)
    model = Model(chosen).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    forward = torch.compile(model) if chosen.mode == "compile" else model
    ids = torch.randint(chosen.vocab, (chosen.batch, chosen.seq)).to(device)
    targets = ids.roll(-1, dims=1)
    seconds = []
    for _ in range(chosen.steps):
        start = perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=chosen.dtype == "bf16"):
            loss = forward(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(perf_counter() - start)
    return model, seconds, loss.item()


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = chosen.tf32
    model, seconds, loss = measure(chosen)
    step = median(seconds[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    peak_kib = peak / 1024 if sys.platform == "darwin" else peak
    where, peak_device, peak_used = "", None, None
    if chosen.device != "cpu":
        where = f" {chosen.device} ({torch.cuda.get_device_name(chosen.device)}){' with TF32' if chosen.tf32 else ''}"
        peak_device = round(torch.cuda.max_memory_reserved(chosen.device) / 2**20, 1)
        peak_used = round(torch.cuda.max_memory_allocated(chosen.device) / 2**20, 1)
    print(json.dumps({
        "peer": f"pytorch {torch.__version__}{where} {chosen.mode} {chosen.dtype} tying={chosen.tying}",
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "step_ms_median": round(1e3 * step, 1),
        "tokens_per_s": round(chosen.batch * chosen.seq / step, 1),
        "peak_rss_mb": round(peak_kib / 1024),
        "peak_device_mb": peak_device,
        "peak_device_used_mb": peak_used,
        "loss": round(loss, 4),
    }))


if __name__ == "__main__":
    main()
