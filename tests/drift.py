"""A world for the tests of host tasks, in a module that worker processes import quickly."""

import os
import signal
import time

import gymnasium
import numpy as np
from gymnasium import spaces


def deaf(seconds):
    """Hang where no signal is heard, as code outside of Python does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(seconds)


class Drift(gymnasium.Env):
    """A point that drifts, and is pushed; it sees where it is, and which way the wind blows. If
    `faulty`, half of its episodes, told by their seeds, fail at the third step, in one of four ways."""

    metadata = {"render_fps": 10}  # noqa: RUF012
    kinds = {  # noqa: RUF012
        "box": (spaces.Box(-2.0, 3.0, (2,)), lambda a: a),
        "choice": (spaces.Discrete(3, start=-1), lambda a: np.array([a, 0.0])),
        "choices": (spaces.MultiDiscrete([2, 3]), lambda a: np.asarray(a) - np.array([0.5, 1.0])),
    }

    def __init__(self, kind="box", faulty=False, deadly=False, render_mode=None):
        self.action_space, self.push = self.kinds[kind]
        self.faulty, self.render_mode, self.faults = faulty, render_mode, DEADLY if deadly else FAULTS
        self.observation_space = spaces.Dict({"place": spaces.Box(-9, 9, (2,)), "wind": spaces.Discrete(3)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.fault, self.time = seed % 8 if self.faulty else 8, 0
        self.fog, self.pay = 0.0, 1.0
        self.place, self.wind = self.np_random.normal(size=2), int(self.np_random.integers(3))
        return {"place": self.place.astype(np.float32), "wind": self.wind}, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.time += 1
        if self.time == 3 and self.fault < 4:
            self.faults[self.fault](self)
        self.place = self.place + 0.1 * self.push(action) + 0.05 * (self.wind - 1)
        reward = -self.pay * float(np.abs(self.place).sum())
        over = self.time > 3 and bool(np.abs(self.place).max() > 1.5)
        seen = (self.place + self.fog).astype(np.float32)
        return {"place": seen, "wind": self.wind}, reward, over, False, {"x": self.place[0]}

    def render(self):
        return np.full((20, 31, 3), 10 * self.time, np.uint8)


FAULTS = (
    lambda env: [][1],
    lambda env: time.sleep(30),
    lambda env: setattr(env, "fog", np.nan),
    lambda env: setattr(env, "pay", np.nan),
)
DEADLY = (lambda env: os._exit(7), lambda env: deaf(30), *FAULTS[2:])
gymnasium.register("Drift-v0", entry_point=Drift, max_episode_steps=20)
