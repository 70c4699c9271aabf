#!/usr/bin/env python3
"""Measures what the module costs: its import in fresh processes, and calls for 48 layers.

    python crates/dlt-python/tests/measure.py
"""

import platform
import random
import statistics
import subprocess
import sys
import timeit


def imports(tries):
    """Microseconds that `import dlt_state` takes in each of some fresh processes, by `python -X importtime`."""
    times = []
    for _ in range(tries):
        command = [sys.executable, "-X", "importtime", "-c", "import dlt_state"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        # "import time: self | cumulative | imported package"
        times.append(int(next(line for line in lines if line.endswith("| dlt_state")).split("|")[1]))
    return times


def calls(call, tries, number=20_000):
    """Microseconds of one call, in each of some series."""
    return [1e6 * seconds / number for seconds in timeit.repeat(call, repeat=tries, number=number)]


def states():
    """Two random states of 48 layers."""
    import dlt_state

    source = random.Random(1)
    return [dlt_state.State.from_action(dlt_state.Action.random(48, source)) for _ in range(2)]


def transition():
    before, after = states()
    return lambda: before.transition_to(after)


def main():
    import dlt_state

    before, after = states()
    action = after.as_action()
    values = action.values
    print(f"CPython {platform.python_version()}, dlt_state {dlt_state.__version__}, {platform.machine()}")
    print(f"import dlt_state: {statistics.median(imports(20)) / 1e3:.2f} ms, median of 20 processes")
    for name, call in {
        "before.transition_to(after)": transition(),
        "before.transition_to(after).events": lambda: before.transition_to(after).events,
        "State.from_action(action)": lambda: dlt_state.State.from_action(action),
        "Action(list of 48)": lambda: dlt_state.Action(values),
        "state.owners": lambda: after.owners,
    }.items():
        print(f"{name}: {statistics.median(calls(call, 9)):.2f} microseconds, median of 9 series")


if __name__ == "__main__":
    main()
