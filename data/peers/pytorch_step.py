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
--processes N              DistributedDataParallel over gloo: N processes of --threads threads, each with its part of
                           --batch; on the CPU only

It prints one line of JSON: `peer`, `params` (distinct trainable numbers), `step_ms_median` (without the first step, which
allocates and compiles), `tokens_per_s`, `peak_rss_mb` (in units of 1024 KiB), `peak_device_mb` (the most GPU memory that
PyTorch held, in the same units; null on the CPU), `peak_device_used_mb` (the most of it that tensors used), and the `loss`
of the last step.

With several processes, process 0 prints the line: `peak_rss_mb` is its own, `loss` that of its part. The line also has
`processes`, `rank_rss_mb` (the most of any process), `bytes_per_step` (what a process sends in a step, by arithmetic: a ring
all-reduce sends 2 (N - 1) / N of its bytes), and `exchange_share` (the share of a step that steps without the exchange do
not take: as many of them are measured after the others).
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from statistics import median
from time import perf_counter

import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional

POSITIONS = 1024
DEVIATION = 0.02
CLIP_NORM = 1.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 12, "width": 384, "heads": 6, "seq": 256, "batch": 8, "vocab": 50257, "steps": 6, "threads": 2, "processes": 1}
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
    if chosen.batch % chosen.processes:
        parser.error(f"--processes: expected a divisor of --batch {chosen.batch}, got {chosen.processes}")
    if chosen.processes > 1 and chosen.device != "cpu":
        parser.error(f"--processes: expected 1 on a GPU, got {chosen.processes}")
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
    """The model, seconds of each step, seconds of each step without exchange, and the last loss."""
    device = torch.device(chosen.device)
    model = Model(chosen).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    several = chosen.processes > 1
    # Gradients that are views of the buckets are in memory once.
    whole = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True) if several else model
    forward = torch.compile(whole) if chosen.mode == "compile" else whole
    ids = torch.randint(chosen.vocab, (chosen.batch // chosen.processes, chosen.seq)).to(device)
    targets = ids.roll(-1, dims=1)

    def step():
        start = perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=chosen.dtype == "bf16"):
            loss = forward(ids, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter() - start, loss.item()

    steps = [step() for _ in range(chosen.steps)]
    alone = []
    if several:
        distributed.barrier()
        with whole.no_sync():
            alone = [step()[0] for _ in range(chosen.steps)]
    return model, [seconds for seconds, _ in steps], alone, steps[-1][1]


def peak_rss_mb():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    peak_kib = peak / 1024 if sys.platform == "darwin" else peak
    return round(peak_kib / 1024)


def among_processes(chosen, alone, step, params):
    """The figures that only several processes have. Every process calls it."""
    rss = torch.tensor([float(peak_rss_mb())])
    distributed.all_reduce(rss, distributed.ReduceOp.MAX)
    # The slowest process alone: to wait for it is no exchange.
    alone = torch.tensor([median(alone[1:])])
    distributed.all_reduce(alone, distributed.ReduceOp.MAX)
    return {
        "processes": chosen.processes,
        "exchange_share": round(max(0.0, 1 - alone.item() / step), 4),
        "bytes_per_step": round(2 * (chosen.processes - 1) / chosen.processes * 4 * params),
        "rank_rss_mb": round(rss.item()),
    }


def process(rank, chosen, meeting):
    """One of several processes. They meet in a file."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=chosen.processes
    )
    line(chosen, rank)
    distributed.destroy_process_group()


def line(chosen, rank=0):
    """Measures, and prints the line in process 0."""
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(rank)
    torch.backends.cuda.matmul.allow_tf32 = chosen.tf32
    model, seconds, alone, loss = measure(chosen)
    step = median(seconds[1:])
    params = sum(parameter.numel() for parameter in model.parameters())
    where, peak_device, peak_used = "", None, None
    if chosen.device != "cpu":
        where = f" {chosen.device} ({torch.cuda.get_device_name(chosen.device)}){' with TF32' if chosen.tf32 else ''}"
        peak_device = round(torch.cuda.max_memory_reserved(chosen.device) / 2**20, 1)
        peak_used = round(torch.cuda.max_memory_allocated(chosen.device) / 2**20, 1)
    figures = {
        "peer": f"pytorch {torch.__version__}{where} {chosen.mode} {chosen.dtype} tying={chosen.tying}",
        "params": params,
        "step_ms_median": round(1e3 * step, 1),
        "tokens_per_s": round(chosen.batch * chosen.seq / step, 1),
        "peak_rss_mb": peak_rss_mb(),
        "peak_device_mb": peak_device,
        "peak_device_used_mb": peak_used,
        "loss": round(loss, 4),
    }
    if chosen.processes > 1:
        figures["peer"] += " ddp gloo"
        figures |= among_processes(chosen, alone, step, params)
    if rank == 0:
        print(json.dumps(figures), flush=True)


def main():
    chosen = arguments()
    if chosen.processes == 1:
        return line(chosen)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(process, (chosen, os.path.join(folder, "meeting")), nprocs=chosen.processes)


if __name__ == "__main__":
    main()
