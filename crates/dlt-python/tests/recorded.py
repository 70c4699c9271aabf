"""The recorded runs of the program `dlt`, which the module has to agree with."""

import ast
import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[3] / "results" / "laptop" / "runs"


class Run:
    """One recorded run: its spec, its decisions with their rewards, its recording."""

    def __init__(self, folder):
        self.folder = folder

    def states(self):
        return (self.folder / "states.jsonl").read_text()

    def decisions(self):
        """The decisions in order. Each has the action, the reward, and what the policy says about itself."""
        rows = map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines())
        return [row for row in rows if row["kind"] == "decision"]

    def settings(self):
        """The arguments of `Agent` that the spec gives."""
        section, settings = "", {}
        for line in (self.folder / "spec.toml").read_text().splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif " = " in line and not line.startswith("#"):
                name, value = line.split(" = ", 1)
                value = {"true": True, "false": False}.get(value) if value in ("true", "false") else ast.literal_eval(value)
                read = section == "agent" or (section, name) in {
                    ("", "seed"),
                    ("model", "layers"),
                    ("tying", "initial"),
                    ("tying", "decision"),
                    ("tying", "state_vector"),
                }
                if read and (section, name) != ("agent", "recording"):
                    settings[name] = value
        return settings


RUNS = {
    str(folder.relative_to(RESULTS)): Run(folder)
    for folder in sorted(RESULTS.glob("*/*"))
    if (folder / "states.jsonl").is_file() and (folder / "metrics.jsonl").is_file()
}
