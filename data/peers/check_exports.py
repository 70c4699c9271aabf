#!/usr/bin/env python3
"""Loads exports of `dlt export --format hf` in transformers, and compares their losses with those of `dlt eval`.

    cargo build --release
    python3 -m venv .venv-peer && .venv-peer/bin/pip install torch transformers
    .venv-peer/bin/python data/peers/check_exports.py --dlt target/release/dlt > data/results/exports/README.md

It trains small models of every family with tied layers, exports them, and loads them by the Auto classes, without our code.
Language models read the same text in the same windows. Classifiers read the same validation split, with the exported tokenizer
or the numbers of the exported image processor. A cross-entropy is a function of all logits, so equal losses mean equal logits.
For BertForMaskedLM the script has no such loss. It checks that every weight is found, and compares a classifier that was tuned
from that model. data/examples/read_tied_model.py reads the compact export of each model, and the script compares it number by
number.

It prints the outcome with versions as Markdown. The exit code is 1 if a loss differs by more than 1e-5.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import safetensors.numpy
import torch
import transformers

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from read_tied_model import read  # noqa: E402

TOLERANCE = 1e-5
CONTEXT = 32
PICTURES = 200
RECORD = 1 + 3 * 32 * 32
SMALL = ["--preset", "smoke", "--quiet", "--steps", "60", "--threads", "1"]
SETS = ["model.layers=4", "model.width=32", "model.heads=4", f"model.context={CONTEXT}", "data.tokenizer=bytes",
        "tying.initial=[0,0,2,2]", "agent.policy=none", "optimizer.learning_rate=3e-3", "model.initial_std=0.1"]
FAMILIES = {
    "gpt2": [],
    "gpt2-decided": ["tying.initial=frozen", "agent.policy=q", "tying.decide_every=10"],
    "bert-causal": ["model.architecture=bert", "model.gelu=erf"],
    "bert-masked": ["model.architecture=bert", "model.objective=masked-token", "model.attention=full"],
    "llama": ["model.architecture=llama", "model.key_heads=2", "model.output=own", "model.feed_forward=80"],
    "llama-biases": ["model.architecture=llama", "model.attention_bias=all", "model.feed_forward_bias=all",
                     "model.head_width=6"],
    "llama-linear": ["model.architecture=llama", "model.rotary_kind=linear", "model.rotary_stretch=[2, 1, 4, 8192]"],
    "llama-dynamic": ["model.architecture=llama", "model.rotary_kind=dynamic", "model.rotary_stretch=[2, 1, 4, 16]"],
    "llama-yarn": ["model.architecture=llama", "model.rotary_kind=yarn", "model.rotary_stretch=[4, 1, 32, 16]",
                   "model.rotary_attention=1.2"],
    "llama-longrope": ["model.architecture=llama", "model.rotary_kind=longrope", "model.rotary_stretch=[4, 1, 4, 16]",
                       "model.rotary_short=[1.0, 1.1, 1.3, 2.0]", "model.rotary_long=[1.0, 1.5, 3.0, 4.0]",
                       "model.rotary_attention=1.1"],
    "llama3": ["model.architecture=llama", "model.rotary_stretch=[4, 1, 4, 16]"],
    "mistral": ["model.architecture=llama", f"model.attention_window={CONTEXT}", "model.key_heads=2"],
    "qwen2": ["model.architecture=llama", "model.attention_bias=inputs", "model.key_heads=2"],
    "qwen3": ["model.architecture=qwen3", "model.head_width=6", "model.key_heads=2"],
    "vit": ["model.architecture=vit", "model.objective=classes", "model.attention=full", "model.pooling=first",
            "model.patch=8", "model.gelu=erf"],
}


def write_data(folder):
    """Writes a text, pictures whose brightness shows their class, and sentences where one word shows the class."""
    words = "the layer copies another of weights and learns a model in time with few numbers".split()
    text = " ".join(words[(at * at * 7 + at * 3 + at // 11) % len(words)] for at in range(9000))
    (folder / "text.txt").write_text(text)
    # Only whole windows: transformers keeps the rotary frequencies of the longest text that it has seen.
    (folder / "said.txt").write_text(text[5000:5705])
    rows = numpy.arange(PICTURES)[:, None]
    pixels = ((rows % 10) * 24 + (numpy.arange(RECORD - 1)[None] * 7 + rows) % 13) % 256
    records = numpy.concatenate([rows % 10, pixels], axis=1).astype(numpy.uint8)
    (folder / "pictures.bin").write_bytes(records.tobytes())
    (folder / "SST").mkdir()
    for name, count in [("train", 128), ("dev", 30)]:
        lines = [f"{'good' if row % 3 else 'bad'} film {row % 17}\t{int(row % 3 > 0)}" for row in range(count)]
        (folder / "SST" / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")


class Binary:
    def __init__(self, path, folder):
        self.path, self.folder = Path(path).resolve(), folder

    def __call__(self, *arguments):
        done = subprocess.run([self.path, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"dlt {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def loss(self, run, *more):
        return json.loads(self("eval", run, "--json", "--threads", "1", *more))["loss"]


def nll(logits, labels):
    return torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum").item()


def language_loss(model, tokenizer, text):
    ids = torch.tensor(tokenizer(text)["input_ids"])
    total = 0.0
    for start in range(0, len(ids) - 1, CONTEXT):
        window = ids[start:start + CONTEXT + 1]
        total += nll(model(input_ids=window[None, :-1]).logits[0], window[1:])
    return total / (len(ids) - 1)


def sentence_loss(model, tokenizer, file):
    rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    total = 0.0
    for text, label in rows:
        ids = tokenizer(text)["input_ids"]
        # The exported tokenizer may already end a text as the model saw it in training.
        ids += [tokenizer.eos_token_id] if ids[-1:] != [tokenizer.eos_token_id] else []
        total += nll(model(input_ids=torch.tensor([ids])).logits, torch.tensor([int(label)]))
    return total / len(rows)


def picture_loss(model, folder, export):
    processor = json.loads((export / "preprocessor_config.json").read_text())
    records = numpy.frombuffer((folder / "pictures.bin").read_bytes(), numpy.uint8).reshape(-1, RECORD)
    # The validation split: the second of 0.9, 0.05 and 0.05 of the file.
    records = records[PICTURES * 90 // 100:PICTURES * 95 // 100]
    pixels = torch.tensor(records[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32)) * processor["rescale_factor"]
    mean, std = (torch.tensor(processor[key]).view(3, 1, 1) for key in ["image_mean", "image_std"])
    logits = model(pixel_values=(pixels - mean) / std).logits
    return nll(logits, torch.tensor(records[:, 0].astype(numpy.int64))) / len(records)


def load(export):
    """The model by the Auto class of its config. Ends the program unless the file has exactly the model's weights."""
    architecture = json.loads((export / "config.json").read_text())["architectures"][0]
    automatic = {"ForMaskedLM": "AutoModelForMaskedLM", "ForSequenceClassification": "AutoModelForSequenceClassification",
                 "ForImageClassification": "AutoModelForImageClassification"}
    name = next((name for end, name in automatic.items() if architecture.endswith(end)), "AutoModelForCausalLM")
    model, said = getattr(transformers, name).from_pretrained(export, output_loading_info=True)
    if type(model).__name__ != architecture:
        sys.exit(f"{export}: expected {architecture}, got {type(model).__name__}")
    wrong = {key: value for key, value in said.items() if value}
    if wrong:
        sys.exit(f"{export}: {wrong}")
    return model.eval(), f"{architecture} by {name}"


def check_compact(dlt, run, folder):
    """Ends the program unless the compact export holds the same weights as the other export."""
    dlt("export", run, "--format", "tied", "--out", f"{run}-tied")
    _, tensors = read(folder / f"{run}-tied" / "model.safetensors")
    theirs = safetensors.numpy.load_file(folder / f"{run}-hf" / "model.safetensors")
    compared = 0
    for name, (shape, numbers) in tensors.items():
        ours, there = numpy.asarray(numbers, numpy.float32).reshape(shape), theirs.get(name)
        # Packed matrices have other names in the other file, and some of GPT-2's are (in, out).
        if there is None:
            continue
        compared += 1
        is_turned = ours.T.shape == there.shape and (ours.T == there).all()
        if ours.size != there.size or not ((ours.ravel() == there.ravel()).all() or is_turned):
            sys.exit(f"{run}: {name} of the compact file differs")
    if compared < 4 * 4:
        sys.exit(f"{run}: expected tensors of each layer in both files, got {compared} in all")


def rows(dlt, folder):
    """Yields name, class, loss by dlt and loss by transformers; None for both of a model without such a loss."""
    for name, sets in FAMILIES.items():
        data = "pictures.bin" if name == "vit" else "text.txt"
        sets = [word for one in SETS + sets for word in ("--set", one)]
        dlt("train", *SMALL, "--data", data, "--out", name, *sets)
        dlt("export", name, "--format", "hf", "--out", f"{name}-hf")
        export = folder / f"{name}-hf"
        model, loaded = load(export)
        check_compact(dlt, name, folder)
        with torch.inference_mode():
            if name == "vit":
                yield name, loaded, dlt.loss(name), picture_loss(model, folder, export)
                continue
            tokenizer = transformers.AutoTokenizer.from_pretrained(export)
            if name == "bert-masked":
                yield name, loaded, None, None
            else:
                text = (folder / "said.txt").read_text()
                yield name, loaded, dlt.loss(name, "--text", "said.txt"), language_loss(model, tokenizer, text)
            if name in ("gpt2", "bert-masked", "llama"):
                tuned = f"{name}-sst2"
                dlt("finetune", name, "--task", "glue/sst2", "--data", "SST", "--steps", "12", "--threads", "1", "--quiet",
                    "--set", "training.batch=16", "--set", "optimizer.learning_rate=3e-3", "--out", tuned)
                dlt("export", tuned, "--format", "hf", "--out", f"{tuned}-hf")
                model, loaded = load(folder / f"{tuned}-hf")
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder / f"{tuned}-hf")
                yield tuned, loaded, dlt.loss(tuned), sentence_loss(model, tokenizer, folder / "SST" / "dev.tsv")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dlt", default="target/release/dlt", help="the program")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    version = subprocess.run([Path(chosen.dlt).resolve(), "--version"], capture_output=True, text=True, check=True)
    print("# Exports in transformers\n\nMade by `python data/peers/check_exports.py`, which says what is compared. Do not edit.\n")
    print(f"{' '.join(version.stdout.split()[:2])}; transformers {transformers.__version__}, torch {torch.__version__}, "
          f"Python {platform.python_version()}, {platform.machine()}. Losses in nats, tolerance {TOLERANCE}.\n")
    print("| model, layers tied as 0 0 2 2 or as decided | loaded as | loss by dlt | loss by transformers | difference |")
    print("|---|---|---|---|---|")
    worst, count = 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for name, loaded, ours, theirs in rows(Binary(chosen.dlt, folder), folder):
            if ours is None:
                print(f"| {name} | {loaded} | | | every weight found |")
                continue
            difference = abs(ours - theirs)
            worst, count = max(worst, difference if math.isfinite(difference) else math.inf), count + 1
            print(f"| {name} | {loaded} | {ours:.8f} | {theirs:.8f} | {difference:.1e} |", flush=True)
    verdict = "agree" if worst <= TOLERANCE else "DIFFER"
    print(f"\nAll {count} losses {verdict}; the largest difference is {worst:.1e}.")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
