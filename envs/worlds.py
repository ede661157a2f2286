"""Gymnasium's environments by id: made, looked into, and what to tell a user whose id or installation lacks something."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled, Error, NameNotFound, NamespaceNotFound, VersionNotFound

from evo.envs.atari import Atari, playing
from evo.envs.foreign import quiet
from evo.registry import nearest


@dataclass(frozen=True)
class World:
    """An environment to be made: its id ("CartPole-v1", or "module:Id-v0" for your own), the keyword arguments of
    `gymnasium.make`, and for Atari games how their frames are treated."""

    env: str
    options: tuple[tuple[str, Any], ...] = ()
    atari: Atari | None = None

    def make(self, render: bool = False) -> Any:
        """A new environment, without Gymnasium's checks of every step; to be looked at if `render`."""
        with quiet():
            options = dict(self.options) | ({"render_mode": "rgb_array"} if render else {})
            if self.atari is not None:
                return playing(self.env, self.atari, options)
            return gymnasium.make(self.env, disable_env_checker=True, **options)


def checked(env: str) -> str:
    """The id, if Gymnasium knows it. Raises ValueError with the nearest id, or the command that installs what it needs."""
    if env.startswith("ALE/"):
        arcade()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gymnasium.spec(env)
    except (NameNotFound, NamespaceNotFound, VersionNotFound, Error) as error:
        known = [
            name for name in gymnasium.registry if "/" not in name or env.partition("/")[0] == name.partition("/")[0]
        ]
        own = " (an env of your own is named as 'module:Id-v0')" if isinstance(error, NameNotFound) else ""
        raise ValueError(f"unknown Gymnasium env {env!r}{own}; {nearest(env, known)}") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"{env}: there is no module {error.name!r} to register the env from.") from None
    return env


def arcade():
    """Register the Atari games. Raises where they aren't installed."""
    if importlib.util.find_spec("ale_py") is None:
        raise ValueError(
            "Atari games need the package ale_py, which isn't installed; run: pip install 'evo-engine[atari]'"
        )
    with quiet():
        gymnasium.register_envs(importlib.import_module("ale_py"))


@cache
def look_into(world: World) -> tuple[gymnasium.Space, gymnasium.Space]:
    """The observation space and the action space of a world. Raises where it can't be made."""
    env = attempt(world.make, world.env)
    found = env.observation_space, env.action_space
    env.close()
    return found


def attempt(make: Callable[[], Any], name: str) -> Any:
    """A new environment; ValueError with one sentence where a package or an option is at fault."""
    try:
        return make()
    except (DependencyNotInstalled, ImportError) as error:
        raise ValueError(_missing(name, str(error))) from None
    except (TypeError, Error) as error:
        raise ValueError(f"{name} can't be made: {error}") from None


def _missing(name: str, said: str) -> str:
    """What to install, from what Gymnasium says is missing."""
    known = {"box2d": "box2d", "mujoco": "mujoco", "ale": "atari", "pygame": "box2d"}
    extra = next((extra for word, extra in known.items() if word in said.lower()), None)
    wanted = f"'evo-engine[{extra}]'" if extra else "what it names"
    return f"{name} needs a package that isn't installed ({said.splitlines()[0]}); run: pip install {wanted}"
