"""Actions, states, transitions, patterns, choices: the examples of the Rust documentation, and laws on random values."""

import random
import unittest

import dlt_state
from dlt_state import Action, ActionSpace, DltError, Event, Group, State, Transition, pattern

DEPTHS = range(1, 13)


def actions(count=200):
    source = random.Random(1)
    return [Action.random(source.choice(DEPTHS), source) for _ in range(count)]


class Values(unittest.TestCase):
    def test_equation_1(self):
        for action in actions():
            owners = []
            for layer, asked in enumerate(action):
                owners.append(layer if asked == layer else owners[asked])
            state = State.from_action(action)
            self.assertEqual(state.owners, owners)
            self.assertEqual(State.from_action(state.as_action()), state)
            self.assertEqual(state.n_independent, action.n_independent)

    def test_groups(self):
        for action in actions():
            state = State.from_action(action)
            groups = state.groups()
            self.assertEqual([group.owner for group in groups], state.independent_layers())
            self.assertEqual(sorted(sum((group.members for group in groups), [])), list(range(len(state))))
            self.assertTrue(all(state.owner(layer) == group.owner for group in groups for layer in group.members))
        self.assertEqual(State([0, 1, 0]).groups()[0], Group(0, [0, 2]))

    def test_sequences(self):
        state = State([0, 1, 0])
        self.assertEqual((len(state), list(state), state[-1], state[1:], 1 in state), (3, [0, 1, 0], 0, [1, 0], True))
        with self.assertRaises(IndexError):
            state[3]
        self.assertEqual(repr(state), "State([0, 1, 0])")
        self.assertEqual(repr(Action([0, 1, 1, 2])), "Action([0, 1, 1, 2])")
        self.assertEqual(len({state, State([0, 1, 0]), State([0, 0, 0])}), 2)
        self.assertLess(State([0, 0]), State([0, 1]))
        self.assertNotEqual(Action([0, 1, 0]), state)
        self.assertEqual(Action([0, 0, 0]).replace(2, 1), Action([0, 0, 1]))
        self.assertEqual(State.parse("0 0 2 2"), State([0, 0, 2, 2]))

    def test_values_cannot_be_changed(self):
        state = State([0, 1])
        state.owners.append(7)
        self.assertEqual(state.owners, [0, 1])
        with self.assertRaises(AttributeError):
            state.owners = [0, 0]

    def test_transitions(self):
        transition = State([0, 1, 1]).transition_to(State([0, 0, 2]))
        self.assertEqual(transition.events, [Event(1, 1, 0), Event(2, 1, 2)])
        self.assertEqual([event.kind for event in transition.events], ["tied", "untied"])
        self.assertEqual(str(transition), "layer 1: 1 -> 0 (tied), layer 2: 1 -> 2 (untied)")
        self.assertEqual((transition.event_counts().tied, transition.event_counts().untied), (1, 1))
        self.assertFalse(Transition(State([0, 1]), State([0, 1])))
        for before, after in zip(actions(), actions()):
            before, after = State.from_action(before), State.from_action(after)
            owners = before.owners
            for event in before.transition_to(after).events:
                self.assertEqual(event.former_owner, owners[event.layer])
                owners[event.layer] = event.new_owner
            self.assertEqual(owners, after.owners)

    def test_patterns(self):
        self.assertEqual(pattern.cycle(6).owners, [0, 1, 2, 0, 1, 2])
        self.assertEqual(pattern.cycle_reversed(6).owners, [0, 1, 2, 2, 1, 0])
        self.assertEqual(pattern.cycle_reversed_as_written(5).owners, [0, 1, 2, 2, 1])
        self.assertEqual(pattern.sequence(6).owners, [0, 0, 2, 2, 4, 4])
        self.assertEqual(pattern.leading(5, 3).owners, [0, 1, 2, 2, 2])
        self.assertEqual(pattern.evenly_grouped(7, 3).owners, [0, 0, 0, 3, 3, 5, 5])
        import dlt_state.pattern

        self.assertIs(dlt_state.pattern, pattern)

    def test_other_states(self):
        state = State([0, 1, 0, 1, 4])
        self.assertEqual(state.split(1, [3]).merge(0, 3), State([0, 1, 0, 0, 4]))
        self.assertEqual(state.relabel([4, 3, 2, 1, 0]), State([0, 1, 2, 1, 2]))
        self.assertEqual(State.all_tied(5).split_largest().owners, [0, 0, 0, 3, 3])
        self.assertIsNone(State.independent(5).split_largest())
        self.assertEqual(state.parameter_count(1_000, 100), 1_300)
        self.assertEqual(State.independent(4).parameter_count(0, 2**63), 2**65)


class Choices(unittest.TestCase):
    def test_rows(self):
        space = ActionSpace(48)
        self.assertEqual(space.n_q_values, 1_175)
        self.assertEqual(space.slice(0), slice(0, 0, 1))
        self.assertEqual([len(range(*space.slice(i).indices(1_175))) for i in range(1, 48)], list(range(2, 49)))
        self.assertEqual(ActionSpace(12).n_states(), 4_213_597)
        self.assertEqual(ActionSpace(5).n_actions(), 120)
        self.assertIsNone(space.n_actions())
        self.assertEqual([ActionSpace(5).n_states_with(k) for k in range(7)], [0, 1, 15, 25, 10, 1, 0])
        self.assertEqual([ActionSpace(4).n_actions_with(k) for k in range(5)], [0, 6, 11, 6, 1])

    def test_greedy(self):
        values, space = [0.1, 0.3, 0.2, 0.9, 0.5], ActionSpace(3)
        greedy = space.greedy(values)
        self.assertEqual(greedy, Action([0, 1, 1]))
        self.assertEqual(space.q_value(values, greedy), space.max_q_value(values))

    def test_random(self):
        def draw(seed):
            return Action.random(9, random.Random(seed))

        self.assertEqual(draw(3), draw(3))
        self.assertGreater(len({draw(seed) for seed in range(20)}), 15)
        self.assertEqual({Action.random(3) for _ in range(500)}, {Action([0, i, j]) for i in range(2) for j in range(3)})
        self.assertIsNone(State.independent(3).random_split())
        self.assertEqual(State.all_tied(9).random_split().n_independent, 2)
        self.assertEqual(State.independent(9).random_merge().n_independent, 8)

    def test_a_source_that_fails(self):
        class Broken:
            def randrange(self, bound):
                raise KeyError("no numbers left")

        class Wrong:
            def randrange(self, bound):
                return bound

        for call in [lambda s: Action.random(4, s), State.all_tied(4).random_split, State.independent(4).random_merge]:
            with self.assertRaises(KeyError):
                call(Broken())
            with self.assertRaises(DltError):
                call(Wrong())


class Refusals(unittest.TestCase):
    """The messages of the Rust crates, unchanged."""

    def test_messages(self):
        many = 1 << 62
        for call, message in [
            (lambda: Action([]), "expected at least one layer, got none"),
            (lambda: Action([0, 2, 0]), "entry 1 is 2: expected at most 1"),
            (lambda: State([0, 1, 0, 2]), "entry 3 is 2: expected an owner, but layer 2 is owned by layer 0"),
            (lambda: State.all_tied(0), "expected at least one layer, got none"),
            (lambda: State.all_tied(many), f"expected at most 65536 layers, got {many}"),
            (lambda: pattern.cycle(0), "expected at least one layer, got none"),
            (lambda: pattern.leading(3, 4), "expected 1 to 3 groups, got 4"),
            (lambda: pattern.evenly_grouped(6, 7), "expected 1 to 6 groups, got 7"),
            (lambda: State([0]).transition_to(State([0, 0])), "expected 1 layers, got 2"),
            (lambda: State([0, 0]).owner(2), "expected one of the 2 layers, got layer 2"),
            (lambda: State([0, 0]).is_independent(2), "expected one of the 2 layers, got layer 2"),
            (lambda: ActionSpace(3).slice(3), "expected one of the 3 layers, got layer 3"),
            (lambda: ActionSpace(3).greedy([0.0]), "expected 5 values, one for each choice, got 1"),
            (lambda: Action([0, 0]).replace(1, 2), "entry 1 is 2: expected at most 1"),
            (lambda: State.parse("0,x"), "column 3: expected the number of a layer, got 'x'"),
        ]:
            with self.assertRaises(DltError) as caught:
                call()
            self.assertIn(message, str(caught.exception))
        self.assertTrue(issubclass(DltError, ValueError))

    def test_types(self):
        for wrong in [lambda: Action("01"), lambda: Action([0, 0.5]), lambda: State.from_action([0, 1]), lambda: State(3)]:
            with self.assertRaises(TypeError):
                wrong()
        with self.assertRaises(OverflowError):
            Action([0, -1])


if __name__ == "__main__":
    unittest.main()
