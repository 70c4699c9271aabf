#!/usr/bin/env python3
"""Reads the compact model file of dlt, model.safetensors, with every layer written out. It needs only Python.

    python3 read_tied_model.py compact/model.safetensors     # prints names and shapes, and which layers share weights

`read(path)` returns the metadata and a dictionary from names to (shape, numbers). Layers that share weights have the same
`numbers` object. crates/dlt-models/src/file.rs describes the format. It is safetensors, with each distinct block under the
number of the lowest layer that uses it. For each layer, `storage` in the metadata gives that lowest layer. Parameters that
`kept` names are there for each layer. Two of them may be `scale.attention` and `scale.feed_forward`: `read` multiplies the
projections that end the two halves of a layer by them, and leaves them out, unless `fold=False`.

No test runs this file, because no test needs Python. data/peers/check_exports.py uses it on files of
`dlt export --format tied`, and compares what it reads with the export for transformers.
"""

import array
import json
import re
import struct
import sys

# What ends the two halves of a layer, in each architecture.
ENDS = {
    "scale.attention": ("attn.c_proj", "attention.output.dense", "self_attn.o_proj"),
    "scale.feed_forward": ("mlp.c_proj", "output.dense", "mlp.down_proj"),
}
LAYER = re.compile(r"^(transformer\.h|bert\.encoder\.layer|vit\.encoder\.layer|model\.layers)\.(\d+)\.(.*)$")


def read(path, fold=True):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        body = file.read()
    metadata = header.pop("__metadata__")
    if metadata.get("dlt-model") not in ("1", "2", "3"):
        raise ValueError(f"{path}: expected model layout version 1, 2 or 3, got {metadata.get('dlt-model')}")
    stored = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{name}: expected F32, got {entry['dtype']}")
        numbers = array.array("f")
        numbers.frombytes(body[slice(*entry["data_offsets"])])
        if sys.byteorder == "big":
            numbers.byteswap()
        stored[name] = (entry["shape"], numbers)
    storage = [int(layer) for layer in metadata["storage"].split(",")]
    kept = set(metadata.get("kept", "").split(","))
    tensors = {name: tensor for name, tensor in stored.items() if not LAYER.match(name)}
    for name, tensor in stored.items():
        if found := LAYER.match(name):
            prefix, lowest, own = found.groups()
            users = [layer for layer, owner in enumerate(storage) if owner == int(lowest)]
            users = [int(lowest)] if own in kept else users
            tensors.update((f"{prefix}.{layer}.{own}", tensor) for layer in users)
    if fold:
        fold_scales(tensors)
    return metadata, tensors


def fold_scales(tensors):
    """Multiplies the rows of the projections that end a layer's halves by its scales."""
    for name in [name for name in tensors if name.rpartition(".scale.")[1]]:
        layer, _, half = name.rpartition(".scale.")
        _, scale = tensors.pop(name)
        for kind in ("weight", "bias"):
            for end in ENDS[f"scale.{half}"]:
                if (own := f"{layer}.{end}.{kind}") in tensors:
                    shape, numbers = tensors[own]
                    columns = len(numbers) // len(scale)
                    products = (number * scale[place // columns] for place, number in enumerate(numbers))
                    tensors[own] = (shape, array.array("f", products))


def main(path):
    metadata, tensors = read(path)
    print("lowest layer with the same weights, for each layer:", metadata["storage"])
    for name, (shape, numbers) in sorted(tensors.items()):
        print(f"{name}  {shape}  {len(numbers)} numbers")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
