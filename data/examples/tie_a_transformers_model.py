#!/usr/bin/env python3
"""Trains a GPT-2 of Hugging Face in PyTorch, on characters of Shakespeare, while an agent of dlt decides which layers share weights.

    pip install torch==2.15.0 transformers==5.24.0 ./crates/dlt-python
    cargo build -p dlt-cli
    python data/examples/tie_a_transformers_model.py --dlt target/debug/dlt    # ends with `dlt inspect` of its recording

It writes states.jsonl, the recording, and outcome.json. The last outcome is in data/results/python; --check compares with it.
"""

import argparse
import copy
import json
import math
import subprocess
from pathlib import Path

import dlt_state
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
LAYERS, CONTEXT, BATCH, STEPS, DECIDE_EVERY = 6, 64, 16, 300, 10


def modules(blocks, binding):
    """The layers of the model. Layers with the same storage are the same module, so their gradients add up."""
    return torch.nn.ModuleList(blocks[storage] for storage in binding.storages)


def enter(before, state, model, blocks, binding, optimizer):
    """Carries the model and its optimizer from one state to the next, by the plan of the binding."""
    plan = binding.apply(before, state)
    for move in plan.moves:
        if move.kind == "copy":
            blocks[move.target] = copy.deepcopy(blocks[move.source])
        else:  # "release", as no layer is frozen and nothing is averaged
            for parameter in blocks.pop(move.source).parameters():
                optimizer.state.pop(parameter, None)
    for layer, _ in plan.untied:
        for parameter in blocks[binding.storage(layer)].parameters():
            optimizer.state.pop(parameter, None)  # moments begin at zero, as with tying.moments = "fresh"
    model.transformer.h = modules(blocks, binding)
    optimizer.param_groups[0]["params"] = list(model.parameters())


def batch(tokens, generator):
    starts = torch.randint(len(tokens) - CONTEXT, (BATCH, 1), generator=generator)
    return tokens[starts + torch.arange(CONTEXT)]


def loss_on(model, windows):
    logits = model(windows, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def perplexity(model, tokens):
    windows = tokens[: len(tokens) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    losses = [loss_on(model, part).item() * len(part) for part in windows.split(64)]
    return math.exp(sum(losses) / len(windows))


def train():
    torch.manual_seed(1)
    torch.set_num_threads(1)  # the order of sums, and with it the last bits, depends on their number
    texts = [(ROOT / f"data/shakespeare/{name}.txt").read_text() for name in ("train", "validation")]
    number = {character: index for index, character in enumerate(sorted(set("".join(texts))))}
    training, validation = (torch.tensor([number[character] for character in text]) for text in texts)

    shape = {"n_layer": LAYERS, "n_embd": 96, "n_head": 4, "n_positions": CONTEXT, "vocab_size": len(number)}
    rest = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **rest))

    agent = dlt_state.Agent(LAYERS, policy="q", seed=1, decision="joint", initial="tied", reward="neg-loss", epsilon_decay=0.9)
    binding = dlt_state.Binding.of_state(agent.current_state)
    blocks = {storage: model.transformer.h[storage] for storage in binding.trained()}
    model.transformer.h = modules(blocks, binding)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    recording = dlt_state.Recording.starting_from(agent.current_state)

    draws = torch.Generator().manual_seed(2)
    before = perplexity(model, validation)
    for step in range(STEPS):
        if step % DECIDE_EVERY == 0:
            decision = agent.decide()
            enter(agent.current_state, decision.state, model, blocks, binding, optimizer)
            recording.push(step, decision.action)
            with torch.no_grad():
                reward = agent.reward(loss_on(model, batch(training, draws)).item())
            agent.learn(reward)
        optimizer.zero_grad()
        loss_on(model, batch(training, draws)).backward()
        optimizer.step()
    stored = sum(parameter.numel() for parameter in model.parameters())
    after = {"after": perplexity(model, validation), "owners": agent.current_state.owners, "parameters": stored}
    return {"before": before} | after, recording


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--dlt", default="dlt", help="the program dlt")
    arguments.add_argument("--out", type=Path, default=ROOT / "runs/python", help="the folder to write into")
    arguments.add_argument("--check", action="store_true", help="fail unless the outcome is the recorded one")
    options = arguments.parse_args()
    result, recording = train()
    outcome = {module.__name__: module.__version__ for module in (dlt_state, torch, transformers)} | result
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "states.jsonl").write_text(recording.to_text())
    (options.out / "outcome.json").write_text(json.dumps(outcome, indent=1) + "\n")
    print(f"perplexity of a character: {result['before']:.2f} before, {result['after']:.2f} after {STEPS} steps", flush=True)
    subprocess.run([options.dlt, "inspect", options.out / "states.jsonl"], check=True)
    for name in ("states.jsonl", "outcome.json") if options.check else ():
        recorded = (ROOT / "data/results/python" / name).read_text()
        if (options.out / name).read_text() != recorded:
            raise SystemExit(f"{name} differs from the recorded one")


if __name__ == "__main__":
    main()
