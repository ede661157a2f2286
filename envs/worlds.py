"""Gymnasium's environments by id: made, looked into, and what to tell a user who lacks something."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled, Error

from evo.envs.atari import Atari, playing
from evo.envs.foreign import quiet, told

OLD = ("-v2", "-v3")  # Gymnasium's MuJoCo worlds that it has no more


@dataclass(frozen=True)
class World:
    """An environment to be made: its id ("CartPole-v1", or "module:Id-v0" for your own), the keyword arguments of
    `gymnasium.make`, and for Atari games how their frames are treated."""

    env: str
    options: tuple[tuple[str, Any], ...] = ()
    atari: Atari | None = None

    def make(self, render: bool = False) -> Any:
        """A new environment, without Gymnasium's checks of every step; to be looked at if `render`."""
        if render and "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo's renderer looks for a display otherwise
            os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # so does pygame
        with quiet():
            options = dict(self.options) | ({"render_mode": "rgb_array"} if render else {})
            if self.atari is not None:
                return playing(self.env, self.atari, options)
            made = gymnasium.make(self.env, disable_env_checker=True, **options)
        return Afresh(made) if "bipedal_walker" in _entry(self.env) else made


class Afresh(gymnasium.Wrapper):
    """BipedalWalker with new physics for every episode: its own are kept, and remember who walked before."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        from Box2D import b2World

        walker: Any = self.unwrapped
        walker._destroy()
        walker.world = b2World()
        return self.env.reset(seed=seed, options=options)


def checked(env: str) -> str:
    """The id, if Gymnasium knows it. Raises ValueError with the nearest id, or what to install."""
    module, _, name = env.rpartition(":")
    if name.startswith("ALE/"):
        arcade()
    try:
        with quiet():
            if module:
                imported(module, env)
            entry = str(gymnasium.spec(name).entry_point)
        if entry.startswith("ale_py") and not name.startswith("ALE/"):
            raise Error("an id of old, whose frames would reach the network as they are")
    except ModuleNotFoundError as error:
        raise ValueError(f"{env}: there is no module {error.name!r}, which would register the env.") from None
    except Error:
        if importlib.util.find_spec("ale_py") and (game := _game(name)):
            raise ValueError(f"Atari games are played by the ids of ALE: {game!r} for {name!r}.") from None
        space = name.partition("/")[0]
        known = [x for x in gymnasium.registry if "/" not in x or x.partition("/")[0] == space]
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise ValueError(
            f"unknown Gymnasium env {env!r}; the nearest known one is {near!r}. Your own is 'module:Id-v0'."
        ) from None
    return env


def imported(module: str, env: str):
    """Have a module register its envs. Raises where importing it does, and says where."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{env}: the module {module!r} can't be imported: {told(error)}.") from error


def _game(name: str) -> str | None:
    """The Atari game that an id of old means, such as BreakoutNoFrameskip-v4."""
    arcade()
    found = f"ALE/{re.sub('(-ram)?(Deterministic|NoFrameskip)?-v[0-9]+$', '', name)}-v5"
    return found if found in gymnasium.registry and found != name else None


def arcade():
    """Register the Atari games. Raises where they aren't installed."""
    if importlib.util.find_spec("ale_py") is None:
        raise ValueError(
            "Atari games need the package ale_py, which isn't installed; run: pip install 'evo-engine[atari]'"
        )
    with quiet():
        ale = importlib.import_module("ale_py")
        ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)
        gymnasium.register_envs(ale)


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
    except Exception as error:
        drawn = _mujoco(name) and not name.endswith(OLD)
        if drawn and importlib.util.find_spec("mujoco") and "MUJOCO_GL" in os.environ:
            gl = os.environ["MUJOCO_GL"]  # mujoco is there, so it is what it draws with; who knows what that raises
            raise ValueError(drawing(name, f"MUJOCO_GL={gl} doesn't work here ({error})")) from None
        if isinstance(error, DependencyNotInstalled | ImportError):
            raise ValueError(_missing(name, str(error))) from None
        said = str(error) if isinstance(error, TypeError | Error) else told(error)
        raise ValueError(f"{name} can't be made: {said}") from error


def _missing(name: str, said: str) -> str:
    """What to install, from what Gymnasium says is missing."""
    short = name.rpartition(":")[2]
    kin = [x for x in gymnasium.registry if x.rpartition("-v")[0] == short.rpartition("-v")[0]]
    if name.endswith(OLD) and _mujoco(kin[-1]) and importlib.util.find_spec("mujoco"):
        return f"{name} needs a MuJoCo of long ago; its last version is {kin[-1]!r}."
    known = {"box2d": "box2d", "mujoco": "mujoco", "ale": "atari", "pygame": "box2d"}
    extra = next((extra for word, extra in known.items() if word in said.lower()), None)
    wanted = f"'evo-engine[{extra}]'" if extra else "what it names"
    return f"{name} needs a package that isn't installed ({said.splitlines()[0]}); run: pip install {wanted}"


def drawing(env: str, said: str) -> str:
    """Why a world can't be drawn here, from what its library `said`, and what to install."""
    entry = _entry(env)
    why = said.splitlines()[0].partition(", run `")[0].rstrip(". ") if said else "no reason given"
    if _mujoco(env):
        return (
            f"{env} can't be drawn: {why}. Without a display, MuJoCo draws with MUJOCO_GL=egl (apt-get install "
            "libegl1 libgl1-mesa-dri) or MUJOCO_GL=osmesa (apt-get install libosmesa6)."
        )
    extra = next((extra for word, extra in (("classic", "classic"), ("box2d", "box2d")) if word in entry), None)
    return f"{env} can't be drawn: {why}." + (f" Run: pip install 'evo-engine[{extra}]'" if extra else "")


def _entry(env: str) -> str:
    return str(gymnasium.spec(env.rpartition(":")[2]).entry_point)


def _mujoco(env: str) -> bool:
    """Whether it is one of Gymnasium's MuJoCo worlds."""
    return "mujoco" in _entry(env)
