#!/usr/bin/env python3
"""Measures the products of a linear layer in PyTorch on the CPU: the peer of the products that the example
`kernel_times` of dlt-kernels measures.

    python3 -m venv .venv-peer && .venv-peer/bin/pip install torch numpy
    .venv-peer/bin/python data/peers/pytorch_product.py 2048x384x1536 2048x768x3072

ROWSxINPUTSxOUTPUTS is the shape of x [ROWS, INPUTS] times the transpose of a weight [OUTPUTS, INPUTS]. In bf16, x and the
weight are bf16, so the cost of rounding a weight of f32 is not in these times.

--threads  threads of PyTorch, 1 by default

For each shape, in f32 and in bf16, it measures three passes:

forward    torch.nn.functional.linear
packed     the same product by oneDNN with a weight that was packed before, which is outside of the time; a PyTorch
           without oneDNN has no such row
backward   autograd's gradients of x and of the weight

It prints one line of JSON: `peer`, `threads` and `products`, a list of `shape`, `format`, `pass`, `ms` (the least of
several rounds) and `gflop_per_s`.
"""

import argparse
import json
from time import perf_counter

import torch
from torch.nn import functional

ROUNDS = 15
FORMATS = {"f32": torch.float32, "bf16": torch.bfloat16}


def sizes(text):
    try:
        rows, inputs, outputs = (int(word) for word in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected ROWSxINPUTSxOUTPUTS, got {text}") from None
    if min(rows, inputs, outputs) < 1:
        raise argparse.ArgumentTypeError(f"expected sizes of 1 or more, got {text}")
    return rows, inputs, outputs


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", metavar="ROWSxINPUTSxOUTPUTS", type=sizes, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.threads < 1:
        parser.error("--threads: expected 1 or more")
    return chosen


def least_seconds(product):
    """The least time of all rounds, because other load on the machine only adds time. The first round is left out."""
    product()
    least = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        product()
        least = min(least, perf_counter() - start)
    return least


def packed(x, weight):
    """The product with a weight that oneDNN has packed, or None where PyTorch does not pack."""
    operations = torch.ops.mkldnn
    try:
        ready = operations._reorder_linear_weight(weight, x.shape[0])
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    return lambda: operations._linear_pointwise(x, ready, None, "none", [], "")


def passes(shape, dtype):
    """Name, number of products and function of each pass."""
    rows, inputs, outputs = shape
    x = torch.rand(rows, inputs).sub(0.5).to(dtype)
    weight = torch.rand(outputs, inputs).sub(0.5).to(dtype)
    measured = [("forward", 1, lambda: functional.linear(x, weight))]
    if (product := packed(x, weight)) is not None:
        measured.append(("packed", 1, product))
    parts = [part.clone().requires_grad_() for part in (x, weight)]
    result = functional.linear(*parts)
    up = torch.ones_like(result)
    return [*measured, ("backward", 2, lambda: torch.autograd.grad(result, parts, up, retain_graph=True))]


def main():
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    products = []
    for shape in chosen.shapes:
        for name, dtype in FORMATS.items():
            for which, count, product in passes(shape, dtype):
                seconds = least_seconds(product)
                operations = 2 * count * shape[0] * shape[1] * shape[2]
                products.append({
                    "shape": "x".join(map(str, shape)),
                    "format": name,
                    "pass": which,
                    "ms": round(1e3 * seconds, 4),
                    "gflop_per_s": round(operations / seconds / 1e9, 1),
                })
    print(json.dumps({"peer": f"pytorch {torch.__version__}", "threads": chosen.threads, "products": products}))


if __name__ == "__main__":
    main()
