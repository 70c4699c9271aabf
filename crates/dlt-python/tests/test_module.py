"""The module as a whole: pickling, docstrings, the stubs, and what it costs."""

import ast
import copy
import inspect
import pickle
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import dlt_state
import measure
from dlt_state import Action, ActionSpace, Agent, Binding, Recording, State, pattern

STUBS = Path(__file__).resolve().parents[1] / "dlt_state.pyi"
CLASSES = {name: value for name, value in vars(dlt_state).items() if inspect.isclass(value)}


def values():
    """One of each class."""
    recording = Recording.gated(State([0, 1, 1]))
    recording.push(3, Action([0, 1, 0]), 2)
    recording.push_refused(5, Action([0, 0, 2]))
    states = State([0, 0, 2]), State([0, 1, 1])
    transition = states[0].transition_to(states[1])
    binding = Binding.of_state(states[0])
    settlement = binding.apply(*states, merge="average")
    agent = Agent(3, policy="q", hidden=4)
    decision = agent.decide()
    searching = Agent(3, policy="backtrack", initial="independent").decide(judge=lambda state: 1.0)
    return [
        Action([0, 1, 0]), states[1], states[1].groups()[1], transition, *transition.events, transition.event_counts(),
        ActionSpace(5), recording, *recording, binding, settlement, *settlement.moves, *settlement.merged,
        dlt_state.Merged(1, 0, 0.5), decision, decision.exploration, agent.learn(-3.0), agent.wants,
        searching, searching.searched,
    ]  # fmt: skip


class Module(unittest.TestCase):
    def test_pickling_and_copies(self):
        seen = set()
        for value in values():
            seen.add(type(value).__name__)
            for protocol in range(2, 6):
                self.assertEqual(pickle.loads(pickle.dumps(value, protocol)), value)
            self.assertEqual(copy.deepcopy(value), value)
            self.assertTrue(repr(value).startswith((type(value).__name__, "<")), repr(value))
        # Agents are compared in test_agent.py.
        self.assertEqual(seen, set(CLASSES) - {"Agent", "DltError"})
        self.assertIs(pickle.loads(pickle.dumps(pattern.cycle)), pattern.cycle)
        error = pickle.loads(pickle.dumps(dlt_state.DltError("x")))
        self.assertEqual((type(error), str(error)), (dlt_state.DltError, "x"))

    def test_reprs_can_be_evaluated(self):
        for value in values():
            if not repr(value).startswith("<"):
                self.assertEqual(eval(repr(value), dict(CLASSES)), value)

    def test_everything_has_a_docstring(self):
        self.assertTrue(dlt_state.__doc__ and pattern.__doc__)
        for name, value in CLASSES.items():
            self.assertTrue(value.__doc__, name)
            for member, what in vars(value).items():
                if not member.startswith("_"):
                    self.assertTrue(what.__doc__, f"{name}.{member}")
        for name in pattern.__all__:
            self.assertTrue(getattr(pattern, name).__doc__, name)

    def test_the_stubs_have_every_name_and_no_other(self):
        tree = ast.parse(STUBS.read_text())
        stubs = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.assertEqual({name for name in stubs if not name.startswith("_")}, {*CLASSES, "pattern"})
        self.assertEqual(set(dlt_state.__all__), {*CLASSES, "pattern", "__version__"})
        for name, value in {**CLASSES, "pattern": pattern}.items():
            functions = [node for node in stubs[name].body if isinstance(node, ast.FunctionDef)]
            present = {member for member in vars(value) if not member.startswith("_")}
            self.assertEqual({f.name for f in functions if not f.name.startswith("_")}, present, name)
            for function in functions:
                if function.name == "__new__" or not function.name.startswith("_"):
                    self.compare_signature(name, value, function)

    def compare_signature(self, owner, value, function):
        decorators = {decorator.id for decorator in function.decorator_list if isinstance(decorator, ast.Name)}
        if "property" in decorators or "overload" in decorators:
            return
        if function.name == "__new__" and sys.version_info < (3, 10):
            return  # Before 3.10 no signature is found for a class.
        actual = inspect.signature(value if function.name == "__new__" else getattr(value, function.name))
        arguments = function.args
        stated = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
        if owner != "pattern" and "staticmethod" not in decorators:
            stated = stated[1:]
        present = [name for name, p in actual.parameters.items() if p.kind != p.VAR_KEYWORD and name != "self"]
        if (owner, function.name) == ("Binding", "apply"):
            stated = stated[: len(present)]  # The readings are **rules at run time.
        self.assertEqual(stated, present, f"{owner}.{function.name}")

    def test_the_wheel_is_typed(self):
        folder = Path(dlt_state.__file__).parent
        self.assertTrue((folder / "py.typed").is_file())
        self.assertEqual((folder / "__init__.pyi").read_text(), STUBS.read_text())

    def test_the_example_of_the_readme_runs(self):
        (script,) = re.findall("```python\n(.*?)```", (STUBS.parent / "README.md").read_text(), re.DOTALL)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", script]
            moves = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
            recording = Recording.parse((Path(folder) / "states.jsonl").read_text())
        self.assertEqual(len(recording), 40)
        self.assertEqual({line.split()[0] for line in moves.splitlines()}, {"copy", "release"})

    def test_it_needs_nothing_but_python(self):
        script = "import sys; before = set(sys.modules); import dlt_state; print(*sorted(set(sys.modules) - before))"
        loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        self.assertEqual({name.split(".")[0] for name in loaded.split()}, {"dlt_state"})

    def test_costs(self):
        """The bounds of the project. The best of several tries, as another process can only slow one down."""
        self.assertLess(min(measure.imports(5)), 50_000)
        self.assertLess(min(measure.calls(measure.transition(), 5)), 5.0)


if __name__ == "__main__":
    unittest.main()
