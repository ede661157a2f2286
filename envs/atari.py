"""Atari games as the Deep GA's authors played them (Such et al. 2017): what a network sees of a game and does in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np


@dataclass(frozen=True)
class Atari:
    """How an Atari game is played: no-op start, frame skip, maximum of two frames, grey, small, stacked.

    An episode starts with 1 to `noops` frames of doing nothing, the number drawn from the episode's seed (0: none). An
    action lasts `skip` frames; the observation is the brighter of the last two of them, pixel by pixel (screens
    flicker), in grey, averaged down to `size` x `size`, stacked with the `stack` - 1 before it, the newest last.
    Rewards are the game's points, unclipped; losing a life ends nothing. `full_actions`: all 18 actions rather than the
    game's own. `sticky`: the chance that a frame repeats the action before it (Machado et al. 2018: 0.25; here 0).
    """

    noops: int = 30
    skip: int = 4
    size: int = 84
    stack: int = 4
    full_actions: bool = True
    sticky: float = 0.0

    def __post_init__(self):
        if self.noops < 0 or min(self.skip, self.size, self.stack) < 1 or not 0 <= self.sticky < 1:
            raise ValueError(
                "`noops` is at least 0, `skip`, `size` and `stack` at least 1, `sticky` from 0 up to 1; got "
                f"{self.noops}, {self.skip}, {self.size}, {self.stack} and {self.sticky}."
            )


@dataclass(frozen=True)
class Game:
    """A game with its frames treated. The buffers hold the last two screens, and the stack."""

    env: Any  # ale-py's
    atari: Atari
    actions: list[Any]
    start: Any  # the game's state at its start
    screens: list[np.ndarray]
    frames: np.ndarray  # [size, size, stack]
    observation_space: gymnasium.Space
    action_space: gymnasium.Space
    metadata: dict[str, Any]

    def reset(self, *, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The start of an episode, after its no-ops."""
        ale, idle = self.env.ale, np.random.default_rng(seed)
        if self.atari.sticky:
            self.env.reset(seed=seed)  # loads the game anew, 150 ms; without chance in it a copy of its start will do
        else:
            ale.restoreSystemState(self.start)
        for _ in range(int(idle.integers(1, self.atari.noops + 1)) if self.atari.noops else 0):
            ale.act(self.actions[0])
            if ale.game_over():
                ale.reset_game()
        ale.getScreenGrayscale(self.screens[0])
        self.frames[:] = 0
        self.frames[..., -1] = small(self.screens[0], self.atari.size)
        return self.frames, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Do something for `skip` frames."""
        ale, chosen, reward, over = self.env.ale, self.actions[action], 0, False
        seen = 0
        for left in range(self.atari.skip - 1, -1, -1):
            reward += ale.act(chosen)
            over = ale.game_over()
            if left < 2 or over:
                ale.getScreenGrayscale(self.screens[seen % 2])
                seen += 1
            if over:
                break
        brightest = np.maximum(*self.screens) if seen > 1 else self.screens[0]
        self.frames[..., :-1] = self.frames[..., 1:]
        self.frames[..., -1] = small(brightest, self.atari.size)
        return self.frames, float(reward), over, False, {}

    def render(self) -> np.ndarray:
        """The screen in colour."""
        return self.env.ale.getScreenRGB()

    def close(self):
        self.env.close()


def small(screen: np.ndarray, size: int) -> np.ndarray:
    """A grey screen averaged down to `size` x `size`."""
    from PIL import Image

    return np.asarray(Image.fromarray(screen).resize((size, size), Image.Resampling.BOX))


def playing(env: str, atari: Atari, options: dict[str, Any]) -> Game:
    """A game by its Gymnasium id."""
    options = {key: value for key, value in options.items() if key != "render_mode"}
    chosen: dict[str, Any] = {
        "frameskip": 1,
        "repeat_action_probability": atari.sticky,
        "full_action_space": atari.full_actions,
    }
    made: Any = gymnasium.make(env, disable_env_checker=True, obs_type="ram", **chosen, **options).unwrapped
    actions = list(made._action_set)
    height, width = made.ale.getScreenDims()
    screens = [np.zeros((height, width), np.uint8) for _ in range(2)]
    shape = (atari.size, atari.size, atari.stack)
    seen = gymnasium.spaces.Box(0, 255, shape, np.uint8)
    able = gymnasium.spaces.Discrete(len(actions))
    made.reset(seed=0)
    start = made.ale.cloneSystemState()
    return Game(
        made, atari, actions, start, screens, np.zeros(shape, np.uint8), seen, able, {"render_fps": 60 / atari.skip}
    )
