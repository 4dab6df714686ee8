"""The DDPG agent by TF-Agents, as a separate process. ddpg_client.py starts it and talks to it.

Requests come in on stdin. Replies go out on a separate pipe, one JSON object a line, because libraries print to stdout
while they are imported. The process ends when stdin closes or when its parent ends. There are two reasons for the
separate process: tf-agents 0.19 runs on tf_keras only, and selecting tf_keras would change the caller's `tf.keras`; and
tf-agents may need other package versions than the caller has (amc_tf/isolated).

Differences from the paper
--------------------------
"Paper" is AMC (He et al., ECCV 2018, arXiv 1802.03494). "Code" is its authors' github.com/mit-han-lab/amc.

With paper=True these three are off:

* The critic's target is the reward itself, for every step of the episode (discount 0). The paper bootstraps with
  discount 1: its targets grow with the number of steps left and chase the critic's own estimates.
* The actor also imitates the best 10 % of the transitions in the replay, one update per critic update. With the critic
  alone the actor keeps all of the early units, the bound then crushes the late units, and the actor stays there.
* The agent also learns from plans of other proposers: the uniform plan, the greedy plan and the plans of the
  refinement. Agent and refinement take turns; the last third of the trials is the refinement's (schedule.py).

Their effect on Plain-20 / Fashion-MNIST at 50 % of the MACs, with 150 networks, mean of three seeds on images that no
search saw (docs/results.md): uniform 87.1 %, the paper's agent 88.5 %, a random agent 88.8 %, all three changes 89.4 %.
With one seed each: without imitation the agent's last 20 plans had 69 % instead of 87 %, and the best network, which
the refinement proposed, 89.3 % instead of 89.4 %. Discount 0 alone raised the mean of the last 30 plans from 61.2 % to
63.2 %, on a regression fitted to earlier searches of ResNet-56.

These differences always hold:

* Warm-up acts uniformly at random, as the code does. The paper explores around the actor with a constant sigma of 0.5.
* Warm-up lasts a quarter of the episodes that the agent or the refinement decides (the paper: 100 of 400). In a short
  run sigma decays faster than by 0.95 an episode, so that it is at most 0.05 in the last episode.
* Actions are keep ratios in [low, 1], as in the code; the paper's are sparsities. TF-Agents scales a tanh to that
  range, the paper a sigmoid: the same curve, but the tanh has twice the slope.
* When warm-up ends, the critic is first trained on the warm-up episodes; then the actor follows it. Otherwise the actor
  follows an untrained critic: Adam drives it to one end of its range within a few episodes, and it returns slowly.
* The replay stores the executed action (bounded and rounded); the code stores the actor's output. The replay holds
  2000 transitions, as the paper says; the code's holds 100 episodes.
* The baseline is a moving average of the rewards of earlier episodes, as in the paper, which does not give its rate.
  The code averages the rewards of the sampled batches. The replay stores plain rewards; the current baseline is
  subtracted when a batch is drawn, so that all transitions of a batch have the same baseline.
* Targets come from the slowly moving target networks, as in the code; the paper's formula uses the networks themselves.
* The actor's loss is TF-Agents': its gradient is twice that of the mean value. Adam is invariant to that.
* Biases start at 0 and kernels as in the DDPG paper (see INIT_LAST); the AMC paper does not say.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import tensorflow as tf
from tf_agents.agents.ddpg.actor_network import ActorNetwork
from tf_agents.agents.ddpg.critic_network import CriticNetwork
from tf_agents.agents.ddpg.ddpg_agent import DdpgAgent
from tf_agents.networks.network import Network
from tf_agents.specs.tensor_spec import BoundedTensorSpec
from tf_agents.trajectories.policy_step import PolicyStep
from tf_agents.trajectories.time_step import StepType, TimeStep, time_step_spec
from tf_agents.trajectories.trajectory import Transition
from tf_agents.utils.common import element_wise_squared_loss

from amc_tf.errors import AgentError
from amc_tf.system.processes import end_with

HIDDEN = 300  # paper: two hidden layers of 300 in actor and critic; the action enters the critic's second
ACTOR_RATE, CRITIC_RATE = 1e-4, 1e-3  # code: --lr_a, --lr_c; re-implementations of the paper agree
ADAM_EPSILON = 1e-8  # code: PyTorch's default; tf_keras's 1e-7 is near the actor's gradients when rewards differ little
TAU = 0.01  # paper, and code: --tau
BATCH = 64  # paper, and code: --bsize
CAPACITY = 2000  # paper: size of the replay buffer, in transitions
DISCOUNT = 1.0  # paper: gamma = 1, so that early steps count as much as late ones
INIT_LAST = 3e-3  # DDPG (Lillicrap et al., 2016), section 7, as is 1/sqrt(inputs) for the layers before; code: --init_w
SIGMA = 0.5  # paper, and code: --init_delta
SIGMA_DECAY = 0.95  # code: --delta_decay, an episode
SIGMA_END = 0.05  # ours: sigma at the end of a short run, which would otherwise still explore
FIRST_UPDATES = 1000  # ours: updates of the critic alone when warm-up ends, see above
BASELINE_DECAY = 0.95  # PocketFlow's AMC; the code's 0.5 makes the targets of deep networks jump with every episode

ELITE = 0.1  # ours: share of the replay that the actor imitates, the transitions of the best rewards
IMITATION_RATE = 1e-3  # ours: the critic's rate

FORMAT = 2  # of the saved file
INIT, NOISE, REPLAY, FIRST = range(4)  # purposes of random numbers; part of each generator's seed

State = list[float]


def truncated_normal(mean: float, sigma: float, low: float, high: float, uniform: float) -> float:
    """The quantile `uniform`, in [0, 1), of a normal distribution truncated to [low, high]."""
    if sigma < 1e-9:
        return mean
    normal = NormalDist(mean, sigma)
    below, above = normal.cdf(low), normal.cdf(high)
    share = below + uniform * (above - below)
    return normal.inv_cdf(share) if 0 < share < 1 else mean


class Replay:
    """The newest transitions, oldest first, as rows of arrays."""

    def __init__(self, num_features: int) -> None:
        self.states = np.zeros((0, num_features), np.float32)
        self.actions = np.zeros((0, 1), np.float32)
        self.rewards = np.zeros(0, np.float32)  # final reward of the transition's episode
        self.discounts = np.zeros(0, np.float32)  # 0 for the last step of an episode, else 1
        self.next_states = np.zeros((0, num_features), np.float32)

    def add(self, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Appends an episode: states (steps, features), actions (steps,), its one final reward."""
        steps = len(actions)
        episode = {
            "states": states,
            "actions": actions[:, None],
            "rewards": np.full(steps, reward),
            "discounts": np.arange(steps) < steps - 1,
            "next_states": np.concatenate([states[1:], np.zeros_like(states[:1])]),  # discount 0 masks the last
        }
        for name, rows in episode.items():
            newest = np.concatenate([getattr(self, name), rows.astype(np.float32)])[-CAPACITY:]
            setattr(self, name, newest)

    def batches(self, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draws (count, BATCH) transitions with replacement: states, actions, rewards, discounts, next states."""
        rows = rng.integers(len(self.rewards), size=(count, BATCH))
        return [self.states[rows], self.actions[rows], self.rewards[rows], self.discounts[rows], self.next_states[rows]]

    def best(self, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draws (count, BATCH) transitions of the best episodes: states, actions."""
        elite = np.flatnonzero(self.rewards >= np.quantile(self.rewards, 1 - ELITE))
        rows = elite[rng.integers(len(elite), size=(count, BATCH))]
        return [self.states[rows], self.actions[rows]]


class Learner:
    """Networks, optimisers, replay and baseline of the agent, and the exploration of its episodes.

    The random numbers of an episode depend only on (seed, episode, purpose). So an agent that is saved after an episode
    and loaded elsewhere continues exactly as if it had never stopped.
    """

    def __init__(
        self, *, num_features: int, episodes: int, warmup_episodes: int, low: float, seed: int, paper: bool
    ) -> None:
        self.num_features, self.low, self.seed, self.paper = num_features, low, seed, paper
        self.warmup_episodes = warmup_episodes
        decays = episodes - 1 - warmup_episodes  # of sigma, until the last episode
        self.sigma_decay = min(SIGMA_DECAY, (SIGMA_END / SIGMA) ** (1 / decays)) if decays > 0 else SIGMA_DECAY
        self.replay = Replay(num_features)
        self.baseline: float | None = None  # None until there is a reward
        self.last_episode = -1  # the last one learned
        self._noise: tuple[int, np.random.Generator] | None = None  # of the episode being acted

        state_spec = tf.TensorSpec((num_features,), tf.float32, "state")
        action_spec = BoundedTensorSpec((1,), tf.float32, low, 1.0, "keep_ratio")
        actor = ActorNetwork(state_spec, action_spec, fc_layer_params=(HIDDEN, HIDDEN))
        critic = CriticNetwork(
            (state_spec, action_spec), observation_fc_layer_params=(HIDDEN,), joint_fc_layer_params=(HIDDEN,)
        )
        target_actor, target_critic = actor.copy(name="TargetActor"), critic.copy(name="TargetCritic")
        self._actor, critic_adam = actor, adam(CRITIC_RATE)
        self._actor_adam, self._imitation_adam = adam(ACTOR_RATE), adam(IMITATION_RATE)
        self._agent = DdpgAgent(
            time_step_spec(state_spec),
            action_spec,
            actor,
            critic,
            self._actor_adam,
            critic_adam,
            target_actor_network=target_actor,
            target_critic_network=target_critic,
            target_update_tau=TAU,
            target_update_period=1,
            td_errors_loss_fn=element_wise_squared_loss,  # paper: mean squared error; TF-Agents' default is Huber's
            gamma=DISCOUNT if paper else 0.0,
        )
        initialise((actor, critic), np.random.default_rng([seed, 0, INIT]))
        self._agent.initialize()  # the target networks start as copies
        self._actor_adam.build(actor.trainable_variables)  # load() may be called before the first training step
        critic_adam.build(critic.trainable_variables)
        self._imitation_adam.build(actor.trainable_variables)
        saved = {
            "actor": actor,
            "critic": critic,
            "target_actor": target_actor,
            "target_critic": target_critic,
            "actor_adam": self._actor_adam,
            "critic_adam": critic_adam,
            "imitation_adam": self._imitation_adam,
        }
        self._variables = {f"{name}/{i}": var for name, own in saved.items() for i, var in enumerate(own.variables)}
        # Without autograph, which takes seconds to translate TF-Agents and changes nothing in it.
        state = tf.TensorSpec((1, num_features))
        rows = [tf.TensorSpec((None, BATCH, *own.shape[1:])) for own in vars(self.replay).values()]
        self._decide = tf.function(self._decide_one, input_signature=[state], autograph=False)
        self._train = tf.function(self._train_all, input_signature=rows, autograph=False)
        self._imitate = tf.function(self._imitate_all, input_signature=rows[:2], autograph=False)

    def sigma(self, episode: int) -> float:
        """Standard deviation of the noise around the actor's action in an episode after warm-up."""
        return SIGMA * self.sigma_decay ** (episode - self.warmup_episodes)

    def act(self, state: State, episode: int, explore: bool) -> float:
        """The keep ratio for a state; with `explore` it consumes one random number of the episode."""
        uniform = 0.0
        if explore:
            if self._noise is None or self._noise[0] != episode:
                self._noise = episode, np.random.default_rng([self.seed, episode, NOISE])
            uniform = self._noise[1].random()
            if episode < self.warmup_episodes:
                return self.low + uniform * (1 - self.low)
        action = float(self._decide(tf.constant([state], tf.float32))[0, 0])
        if explore:
            action = truncated_normal(action, self.sigma(episode), self.low, 1.0, uniform)
        return min(max(action, self.low), 1.0)  # rounding may end slightly outside

    def learn(self, episode: int, states: list[State], actions: list[float], reward: float) -> None:
        """Stores an episode and, after warm-up, makes one update per transition of it."""
        if episode <= self.last_episode:
            raise ValueError(
                f"learn() got episode {episode}, but episodes up to {self.last_episode} are learned: each may be "
                "learned once, in rising order, so pass a later one."
            )
        self.replay.add(np.asarray(states, np.float32), np.asarray(actions, np.float32), reward)
        if self.baseline is None:
            self.baseline = reward
        if episode >= self.warmup_episodes:
            if self.last_episode < self.warmup_episodes:
                self._actor_adam.learning_rate.assign(0)
                self._update(FIRST_UPDATES, episode, FIRST)
                self._actor_adam.learning_rate.assign(ACTOR_RATE)
            self._update(len(actions), episode, REPLAY)
        self.baseline = BASELINE_DECAY * self.baseline + (1 - BASELINE_DECAY) * reward
        self.last_episode = episode
        self._noise = None

    def _update(self, count: int, episode: int, purpose: int) -> None:
        rng = np.random.default_rng([self.seed, episode, purpose])
        now, actions, rewards, discounts, following = self.replay.batches(count, rng)
        self._train(now, actions, rewards - np.float32(self.baseline), discounts, following)
        if not self.paper:
            self._imitate(*self.replay.best(count, rng))

    def save(self, path: Path) -> None:
        """Writes all learned state to one file. The file is complete or absent."""
        arrays = {
            "format": np.int64(FORMAT),
            "num_features": np.int64(self.num_features),
            "low": np.float64(self.low),
            "last_episode": np.int64(self.last_episode),
            "baseline": np.float64(np.nan if self.baseline is None else self.baseline),
            **{f"replay/{name}": rows for name, rows in vars(self.replay).items()},
            **{name: variable.numpy() for name, variable in self._variables.items()},
        }
        unfinished = path.with_name(path.name + ".unfinished")
        try:
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()  # the disk may be full
            raise AgentError(
                f"The agent cannot be saved to {path} ({error.strerror or error}): make room or mend the permissions "
                "and run the same call again; no finished episode is lost."
            ) from error

    def load(self, path: Path) -> None:
        """Restores the state that `save` wrote. If the file does not fit, the learner stays as it was."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise AgentError(
                f"The agent cannot be loaded from {path} ({error}): pass a file that save() wrote."
            ) from error
        for name, own in {"format": FORMAT, "num_features": self.num_features, "low": self.low}.items():
            if (stored := arrays.get(name)) is None or stored != own:
                raise AgentError(
                    f"The agent cannot be loaded from {path}: its {name} is {stored}, this agent's is {own}; load a "
                    "file that was saved by an agent built with the same arguments and version."
                )
        rows = len(arrays.get("replay/rewards", ()))
        shapes = {name: tuple(variable.shape) for name, variable in self._variables.items()}
        shapes |= {f"replay/{name}": (rows, *own.shape[1:]) for name, own in vars(self.replay).items()}
        shapes |= {"last_episode": (), "baseline": ()}
        for name, shape in shapes.items():
            stored_shape = arrays[name].shape if name in arrays else None
            if stored_shape != shape:
                raise AgentError(
                    f"The agent cannot be loaded from {path}: the shape of {name} is {stored_shape}, expected was "
                    f"{shape}; the file is damaged or of another version, so start anew without it."
                )
        for name, variable in self._variables.items():
            variable.assign(arrays[name])
        for name in vars(self.replay):
            setattr(self.replay, name, arrays[f"replay/{name}"])
        self.last_episode = int(arrays["last_episode"])
        self.baseline = None if np.isnan(arrays["baseline"]) else float(arrays["baseline"])
        self._noise = None

    def _decide_one(self, states: tf.Tensor) -> tf.Tensor:
        one = tf.ones(1)
        return self._agent.policy.action(TimeStep(tf.constant([StepType.MID]), 0 * one, one, states)).action

    def _train_all(
        self, states: tf.Tensor, actions: tf.Tensor, rewards: tf.Tensor, discounts: tf.Tensor, next_states: tf.Tensor
    ) -> None:
        """One update per row of (updates, BATCH, ...) tensors, in order."""
        mid, zero = tf.fill([BATCH], StepType.MID), tf.zeros(BATCH)  # the loss reads only the next step's discount

        def update(row: tf.Tensor) -> tf.Tensor:
            now = TimeStep(mid, zero, zero, states[row])
            following = TimeStep(mid, rewards[row], discounts[row], next_states[row])
            self._agent.train(Transition(now, PolicyStep(actions[row], (), ()), following))
            return row + 1

        tf.while_loop(lambda row: row < tf.shape(rewards)[0], update, [0])

    def _imitate_all(self, states: tf.Tensor, actions: tf.Tensor) -> None:
        """One update of the actor towards the given actions per row of (updates, BATCH, ...) tensors, in order."""

        def update(row: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                outputs, _ = self._actor(states[row], tf.fill([BATCH], StepType.MID))
                loss = tf.reduce_mean(tf.square(outputs - actions[row]))
            weights = self._actor.trainable_variables
            self._imitation_adam.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return row + 1

        tf.while_loop(lambda row: row < tf.shape(actions)[0], update, [0])


def adam(rate: float) -> tf.keras.optimizers.Adam:
    return tf.keras.optimizers.Adam(rate, epsilon=ADAM_EPSILON)


def initialise(networks: Sequence[Network], rng: np.random.Generator) -> None:
    """Sets the kernels to random values as in the DDPG paper, see INIT_LAST, and the biases to 0."""
    for network in networks:
        *inner, last_kernel, last_bias = network.variables
        for kernel, bias in zip(inner[::2], inner[1::2], strict=True):
            limit = 1 / np.sqrt(kernel.shape[0])
            kernel.assign(rng.uniform(-limit, limit, kernel.shape))
            bias.assign(np.zeros(bias.shape))
        last_kernel.assign(rng.uniform(-INIT_LAST, INIT_LAST, last_kernel.shape))
        last_bias.assign(np.zeros(last_bias.shape))


def main(replies: int, parent: int, settings: dict) -> None:
    """Answers each request {"call", ...arguments} with {"value"}.

    If the arguments are invalid the answer has "refused" instead of "value", if the call failed "failed"; each is an
    error message.

    Args:
        replies: File descriptor that the answers are written to.
        parent: Process id of the client.
        settings: Arguments of Learner.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop, between two requests
    # Needed because another fork of the parent may hold stdin open after the parent's death.
    end_with(parent)
    tf.config.threading.set_intra_op_parallelism_threads(1)  # scoring needs the cores, and sums keep their order
    tf.config.threading.set_inter_op_parallelism_threads(1)
    learner = Learner(**settings)
    calls = {
        "act": learner.act,
        "learn": learner.learn,
        "save": lambda path: learner.save(Path(path)),
        "load": lambda path: learner.load(Path(path)),
        "last_episode": lambda: learner.last_episode,
    }
    for request in map(json.loads, sys.stdin.buffer):
        reply = {}
        try:
            reply["value"] = calls[request.pop("call")](**request)
        except ValueError as error:
            reply["refused"] = str(error)
        except (AgentError, OSError) as error:
            reply["failed"] = str(error)
        except Exception as error:
            traceback.print_exc()
            reply["failed"] = f"{type(error).__name__}: {error}"
        line = json.dumps(reply).encode() + b"\n"
        while line:
            line = line[os.write(replies, line) :]


if __name__ == "__main__":
    main(int(sys.argv[1]), **json.loads(sys.argv[2]))
