"""The plan of copies and releases, carried out on plain numbers."""

import copy
import random
import unittest

from dlt_state import Action, Binding, DltError, Move, Settlement, State


def carry_out(bank, settlement, initial=None):
    """What the holder of the weights does, with a number for each storage."""
    for move in settlement.moves:
        if move.kind == "copy":
            bank[move.target] = bank[move.source]
        elif move.kind == "release":
            del bank[move.source]
        elif move.kind == "blend":
            bank[move.target] = (1 - move.share) * bank[move.target] + move.share * bank[move.source]
        else:
            bank[move.target] = initial[move.target]


class Plans(unittest.TestCase):
    def test_a_step(self):
        binding = Binding.of_state(State.independent(3))
        settlement = binding.apply(State.independent(3), State.all_tied(3))
        self.assertEqual(settlement.moves, [Move("release", 1, None, None), Move("release", 2, None, None)])
        self.assertEqual((settlement.tied, settlement.keeps_function, binding.storages), ([1, 2], False, [0, 0, 0]))

        settlement = binding.apply(State.all_tied(3), State([0, 0, 2]))
        self.assertEqual(settlement.moves, [Move("copy", 0, 3, None)])
        self.assertEqual((settlement.untied, settlement.keeps_function), ([(2, 0)], True))
        self.assertEqual((binding.storage(2), binding.trained(), binding.n_distinct), (3, [0, 3], 2))
        self.assertEqual((binding.slot(1), binding.slot(1, gradient="owner")), (0, None))

    def test_each_layer_that_is_untied_continues_with_what_it_used(self):
        source = random.Random(1)
        state = State.independent(9)
        binding, bank = Binding.of_state(state), {layer: float(layer) for layer in range(9)}
        for step in range(300):
            after = State.from_action(Action.random(9, source))
            used = [bank[storage] for storage in binding.storages]
            settlement = binding.apply(state, after)
            carry_out(bank, settlement)
            self.assertEqual(sorted(bank), binding.trained())
            self.assertEqual(binding.partition(), after.owners)
            for layer in after.independent_layers():
                self.assertEqual(bank[binding.storage(layer)], used[layer])
            for storage in bank:
                bank[storage] += source.random()
            state = after

    def test_frozen_layers(self):
        binding = Binding.frozen(3)
        self.assertEqual([binding.is_frozen(layer) for layer in range(3)], [False, True, True])
        settlement = binding.apply(State.all_tied(3), State([0, 1, 0]))
        self.assertEqual([(move.kind, move.source, move.target) for move in settlement.moves], [("materialise", None, 1), ("release", 2, None)])
        self.assertEqual([binding.trains_alone(layer) for layer in range(3)], [True, True, False])

    def test_readings(self):
        def settle(**rules):
            return Binding.of_state(State([0, 1, 1])).apply(State([0, 1, 1]), State([0, 0, 0]), **rules)

        self.assertEqual([move.kind for move in settle(merge="average").moves], ["blend", "release"])
        self.assertAlmostEqual(settle(merge="average").moves[0].share, 2 / 3)
        self.assertEqual(settle(merge="average").merged[0].into, 0)
        self.assertEqual([move.kind for move in settle(tie="replicate").moves], ["copy", "release", "copy"])
        self.assertEqual(settle(retied="keep", action=Action([0, 0, 0]), visited=1).moves, [])

    def test_refusals(self):
        binding = Binding.of_state(State([0, 0]))
        before = copy.copy(binding)
        for call, message in [
            (lambda: binding.apply(State([0]), State([0])), "expected 2 layers, got 1"),
            (lambda: binding.apply(State([0, 0]), State([0, 1]), untie="cut"), "Binding.apply: `tying.untie` must be"),
            (lambda: binding.apply(State([0, 0]), State([0, 1]), visited=2), "expected one of the 2 layers, got layer 2"),
            (lambda: binding.storage(2), "expected one of the 2 layers, got layer 2"),
            (lambda: binding.slot(1, gradient="all"), 'expected "sum" or "owner", got "all"'),
            (lambda: Binding([], [], [], 0), "expected at least one layer, got none"),
            (lambda: Binding.from_parts([0, 2, 2], [], []), "layer 1"),
        ]:
            with self.assertRaises(DltError) as caught:
                call()
            self.assertIn(message, str(caught.exception))
        with self.assertRaises(TypeError):
            binding.apply(State([0, 0]), State([0, 1]), decide_every=3)
        self.assertEqual(binding, before)
        self.assertIsInstance(binding.apply(State([0, 0]), State([0, 1])), Settlement)


if __name__ == "__main__":
    unittest.main()
