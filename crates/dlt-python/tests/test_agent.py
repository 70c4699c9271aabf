"""The agent: the decisions of recorded runs, its rules and messages, snapshots."""

import copy
import pickle
import unittest

from dlt_state import Action, Agent, DltError, Exploration, Recording, Searched, State, Wants
from recorded import RUNS


class RecordedRuns(unittest.TestCase):
    """Built from a recorded spec and given the recorded rewards, the agent decides what was recorded, bit for bit."""

    def test_decisions(self):
        policies = set()
        for name, run in RUNS.items():
            settings = run.settings()
            agent = Agent(**settings)
            if agent.wants.products or agent.wants.distances:
                continue  # The evidence of these runs is not recorded.
            policies.add(settings["policy"])
            with self.subTest(run=name):
                for row in run.decisions():
                    self.compare(agent, row)
        self.assertLessEqual({"q", "random"}, policies)

    def compare(self, agent, row):
        decision = agent.decide()
        self.assertEqual((decision.action.values, decision.state.owners), (row["action"], row["state"]))
        if "epsilon" in row:
            self.assertEqual(decision.exploration, Exploration(row["epsilon"], row["explored"]))
        else:
            self.assertIsNone(decision.exploration)
        update = agent.learn(row["reward"])
        if "q_predicted" in row:
            learned = (update.predicted, update.target, update.loss)
            self.assertEqual(learned, (row["q_predicted"], row["q_target"], row["q_loss"]))


class Agents(unittest.TestCase):
    def test_a_loop(self):
        agent = Agent(12, policy="q", seed=1, decision="joint", reward="neg-ppl", hidden=8)
        recording = Recording(12)
        for step in range(0, 60, 15):
            decision = agent.decide()
            self.assertEqual(agent.pending, decision)
            self.assertEqual(State.from_action(decision.action), decision.state)
            recording.push(step, decision.action)
            update = agent.learn(agent.reward(loss=4.2))
            self.assertEqual(agent.current_state, decision.state)
            self.assertAlmostEqual(update.loss, (update.predicted - update.target) ** 2, delta=1e-3 * update.loss)
        self.assertEqual((len(agent.q_values()), agent.wants, agent.n_layers), (77, Wants(False, False), 12))

    def test_per_layer_decisions_take_turns(self):
        agent = Agent(layers=4, policy="random", decision="per-layer")
        turns = []
        for _ in range(6):
            decision = agent.decide()
            turns.append((decision.layer, decision.sweep_ended))
            self.assertIsNone(agent.learn(0.0))
        self.assertEqual(turns, 2 * [(1, False), (2, False), (3, True)])

    def test_rewards(self):
        self.assertEqual(Agent(2, policy="random", reward="neg-loss").reward(2.5), -2.5)
        self.assertEqual(Agent(2, policy="random", reward="gain").reward(2.0, before=2.5), 0.5)
        self.assertEqual(Agent(2, policy="random", reward="accuracy").reward(2.0, 0.75), 0.75)
        falls = Agent(2, policy="random", reward="loss-delta")
        self.assertEqual([falls.reward(5.0), falls.reward(4.5)], [0.0, 0.5])

    def test_evidence(self):
        agent = Agent(3, policy="grow", decision="split", initial="tied")
        self.assertTrue(agent.wants.products)
        products = [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
        decision = agent.decide("split", products=products)
        self.assertEqual((decision.state, round(decision.conflict, 9)), (State([0, 0, 2]), 2.666666667))
        self.assertIsNone(decision.exploration)

    def test_searches(self):
        wanted = State([0, 0, 2, 2])

        def judge(state):
            self.assertIsNone(agent.pending)  # A judge may use the agent.
            return 1.0 + sum(one != other for one, other in zip(state, wanted))

        for policy in ["backtrack", "beam", "mcts", "random-search"]:
            with self.subTest(policy=policy):
                agent = Agent(4, policy=policy, initial="independent", price=0.0, budget=60, reward_batches=2)
                decision = agent.decide(judge=judge)
                self.assertEqual(decision.searched.passes, 2 * decision.searched.candidates)
                if policy != "random-search":
                    self.assertEqual((decision.state, decision.searched), (wanted, Searched(15, 30, 3.0, 1.0)))
                agent.learn(0.0)
                self.assertEqual(agent.current_state, decision.state)

    def test_a_search_needs_a_judge_that_answers(self):
        agent = Agent(3, policy="beam", initial="independent")
        before = agent.snapshot()
        with self.assertRaisesRegex(DltError, "the policy searches: expected a judge of candidates"):
            agent.decide()
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            agent.decide(judge=lambda state: 1 / 0)
        with self.assertRaises(TypeError):
            agent.decide(judge=lambda state: None)
        self.assertEqual(agent.snapshot(), before)

    def test_a_refused_decision_leaves_the_state(self):
        agent = Agent(5, policy="fixed", pattern="independent", initial="tied")
        agent.decide()
        agent.refuse()
        self.assertTrue(agent.is_refused)
        agent.learn(-1.0)
        self.assertEqual((agent.current_state, agent.current_action), (State.all_tied(5), Action.all_zero(5)))

    def test_replays(self):
        recording = Recording(3)
        recording.push(15, Action([0, 1, 1]))
        agent = Agent(3, policy="replay", recording=recording)
        recording.push(30, Action([0, 1, 2]))  # Added too late for this agent.
        states = []
        for _ in range(2):
            states.append(agent.decide().state)
            agent.learn(0.0)
        self.assertEqual(states, 2 * [State([0, 1, 1])])
        self.assertEqual(pickle.loads(pickle.dumps(agent)).decide().state, State([0, 1, 1]))


    def test_exempt_layers_are_in_no_tie(self):
        agent = Agent(6, policy="random", decision="joint", seed=3, exempt="ends")
        for _ in range(50):
            owners = agent.decide().state.owners
            self.assertEqual((owners[0], owners[5]), (0, 5))
            self.assertNotIn(0, owners[1:])
            agent.learn(0.0)
        with self.assertRaisesRegex(DltError, "`tying.exempt`"):
            Agent(6, policy="random", exempt=[6])


class Rules(unittest.TestCase):
    """The rules and the messages of a spec file."""

    def test_messages(self):
        for arguments, message in [
            ({"policy": "quu"}, 'Agent: `agent.policy` must be "none", "q", "random"'),
            ({"polic": "q"}, "Agent: unknown key `agent.polic`; the nearest is `agent.policy`"),
            ({"gamma": 2.0}, "`agent.gamma` is 2.0: must be a number at least 0 and at most 1"),
            ({"gamma": "high"}, 'Agent: `agent.gamma` must be'),
            ({"hidden": 1.5}, "Agent: `agent.hidden` must be"),
            ({"hidden": 2**70}, f'Agent: `agent.hidden` must be a whole number from 1 to 2147483647; got the string "{2**70}"'),
            ({"seed": -1}, "Agent: `seed` must be a whole number"),
            ({"layers": 0}, "`model.layers` is 0: must be a whole number from 1"),
            ({"layers": 1, "policy": "q"}, "in a model of one layer: there is nothing to decide"),
            ({"initial": [0, 1, 1]}, "`tying.initial` is [0, 1, 1]: must be the owners of model.layers = 2 layers"),
            ({"policy": "grow"}, "where tying.decision is \"joint\""),
            ({"gamma": 2.0, "hidden": 0}, "2 values of the spec cannot be used:"),
            ({"policy": "replay"}, "the policy replays a recording, but none is given"),
            ({"state_vector": "raw"}, "`tying.state_vector` is \"raw\": must be \"canonical\""),
        ]:
            with self.subTest(arguments=arguments), self.assertRaises(DltError) as caught:
                Agent(**{"layers": 2, **arguments})
            self.assertIn(message, str(caught.exception))
        for arguments in [{"gamma": None}, {"recording": "states.jsonl"}, {"policy": "q", "pattern": object()}]:
            with self.subTest(arguments=arguments), self.assertRaises(TypeError):
                Agent(**{"layers": 2, **arguments})

    def test_order_of_calls(self):
        agent = Agent(2, policy="random")
        with self.assertRaisesRegex(DltError, "learn was called without a decision: expected decide first"):
            agent.learn(0.0)
        agent.decide()
        with self.assertRaisesRegex(DltError, "decide was called twice in a row: expected learn after each decision"):
            agent.decide()
        with self.assertRaisesRegex(DltError, "the reward should be finite, got NaN"):
            agent.learn(float("nan"))

    def test_evidence(self):
        agent = Agent(3, policy="grow", decision="split")
        for arguments, message in [
            ({}, "expected a training step since the last decision, got none"),
            ({"products": [[0.0] * 3] * 2}, "products of gradients: expected 9 numbers for 3 layers, got 6"),
            ({"products": [[0.0] * 2] * 3}, "products: expected rows of 3 numbers, got one of 2"),
            ({"products": [[float("inf")] * 3] * 3}, "products of gradients should be finite, got inf"),
            ({"turn": "swop"}, 'expected "regular", "split" or "swap", got "swop"'),
        ]:
            with self.assertRaises(DltError) as caught:
                agent.decide(**{"turn": "split", **arguments})
            self.assertIn(message, str(caught.exception))
        self.assertIsNone(agent.pending)


class Snapshots(unittest.TestCase):
    def agents(self):
        for arguments in [
            {"policy": "q", "hidden": 5, "replay_memory": 8, "replay_batch": 3, "target_every": 2},
            {"policy": "q", "hidden": 5, "decision": "per-layer", "network": "reference"},
            {"policy": "random", "decision": "per-layer"},
        ]:
            yield Agent(6, seed=3, **arguments)

    def steps(self, agent, count):
        made = []
        for step in range(count):
            made.append(agent.decide())
            made.append(agent.learn(agent.reward(3.0 / (1 + step))))
        return made

    def test_each_way_of_saving_continues_bit_for_bit(self):
        for agent in self.agents():
            self.steps(agent, 7)
            agent.decide()  # A pending decision is saved too.
            restored = [pickle.loads(pickle.dumps(agent, protocol)) for protocol in range(2, 6)]
            restored.append(copy.deepcopy(agent))
            fresh = pickle.loads(pickle.dumps(agent))
            fresh.restore(agent.snapshot())
            for other in [*restored, fresh]:
                self.assertEqual(other.snapshot(), agent.snapshot())
                self.assertEqual(repr(other), repr(agent))
                other.learn(-1.5)
            agent.learn(-1.5)
            expected = self.steps(agent, 9)
            for other in [*restored, fresh]:
                self.assertEqual(self.steps(other, 9), expected)

    def test_refusals_change_nothing(self):
        agent = Agent(6, policy="q", hidden=5)
        before = agent.snapshot()
        for text in ["", "{}", Agent(5, policy="q", hidden=5).snapshot(), Agent(6, policy="random").snapshot()]:
            with self.assertRaises(DltError):
                agent.restore(text)
        self.assertEqual(agent.snapshot(), before)


if __name__ == "__main__":
    unittest.main()
