"""Recordings: the text form, and recordings of runs of the program itself."""

import unittest

from dlt_state import Action, DltError, EventCounts, Recording, State
from recorded import RUNS


class Recordings(unittest.TestCase):
    def setUp(self):
        self.recording = Recording(3)
        self.recording.push(15, Action([0, 1, 1]))
        self.recording.push(30, Action([0, 1, 0]), layer=2)

    def test_text(self):
        self.assertEqual(
            self.recording.to_text(),
            '{"format":"dlt-states","version":1,"n_layers":3}\n'
            '{"step":15,"action":[0,1,1],"state":[0,1,1]}\n'
            '{"step":30,"layer":2,"action":[0,1,0],"state":[0,1,0]}\n',
        )
        self.assertEqual(Recording.parse(self.recording.to_text()), self.recording)
        self.assertTrue(self.recording.to_text().startswith(self.recording.header_line()))

    def test_what_it_says(self):
        self.assertEqual(self.recording.state_at(14), State.all_tied(3))
        self.assertEqual(self.recording.state_at(29), State([0, 1, 1]))
        self.assertEqual(self.recording.steps_independent(40), [40, 25, 0])
        self.assertEqual(self.recording.event_counts(), EventCounts(tied=2, untied=1))
        self.assertEqual([step for step, _ in self.recording.transitions()], [15, 30])
        self.assertEqual((len(self.recording), self.recording.n_layers, self.recording.version), (2, 3, 1))
        self.assertEqual([row.step for row in self.recording], [15, 30])
        self.assertEqual((self.recording[-1].layer, self.recording[0].layer), (2, None))
        self.assertEqual(self.recording[0].state, State([0, 1, 1]))
        self.assertEqual([row.step for row in self.recording[::-1]], [30, 15])
        with self.assertRaises(IndexError):
            self.recording[2]

    def test_refused_decisions(self):
        recording = Recording.gated(State.independent(2))
        row = recording.push_refused(15, Action([0, 0]))
        self.assertEqual((row.refused, row.state, row.action), (Action([0, 0]), State([0, 1]), Action([0, 1])))
        self.assertEqual(row.to_line(), '{"step":15,"action":[0,1],"state":[0,1],"refused":[0,0]}')
        self.assertEqual(Recording.parse(recording.to_text()), recording)

    def test_refusals(self):
        before = self.recording.to_text()
        for call, message in [
            (lambda: self.recording.push(29, Action([0, 0, 0])), "expected a step of at least 30, got 29"),
            (lambda: self.recording.push(31, Action([0, 0])), "expected 3 layers, got 2"),
            (lambda: self.recording.push(31, Action([0, 0, 0]), 3), "expected one of the 3 layers, got layer 3"),
            (lambda: self.recording.push_refused(31, Action([0, 0, 0])), "expected a recording of version 2"),
            (lambda: Recording.parse(before + "{}\n"), "line 4: column 2: expected a key, got '}'"),
            (lambda: Recording(0), "expected at least one layer, got none"),
        ]:
            with self.assertRaises(DltError) as caught:
                call()
            self.assertIn(message, str(caught.exception))
        self.assertEqual(self.recording.to_text(), before)

    def test_recorded_runs(self):
        for name, run in RUNS.items():
            with self.subTest(run=name):
                text = run.states()
                self.assertEqual(Recording.parse(text).to_text(), text)


if __name__ == "__main__":
    unittest.main()
