"""Members play: the device says what all of them do, the host steps their worlds, and whoever ends makes room.

Members take slots in their order; a slot is free when its member's episodes are over, and the next members take it. Two
halves of the slots alternate: while the worlds of one step, the device works on the other. Nothing of a member's
evaluation depends on its slot or on its neighbours: its worlds are seeded from its own key, and its row of a batched
forward has the same bits whatever the width (two rows and more; XLA has another program for one).

Axes: `n` members, `w` slots of a half, `o` an observation's own axes, `e` episodes, `d` descriptor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from evo.envs.bench import Failure, Worlds
from evo.genome import size
from evo.host import Lost, Members
from evo.slots import Players, Slots
from evo.task import State

NARROWER = 4  # a half with this many times more slots than players moves them together
LEAST = 2  # slots of a half


class Tally(NamedTuple):
    """What is known of every member; sums over its episodes."""

    reward: np.ndarray  # [n]
    steps: np.ndarray  # [n]
    found: np.ndarray  # [n, d]
    first: np.ndarray  # [n, o] its first observation, from which the sums are taken; of length 0 where nobody asks
    total: np.ndarray  # [n, o] of observations
    square: np.ndarray  # [n, o] of their squares


class Half(NamedTuple):
    """One half of the slots."""

    row: np.ndarray  # [w] each slot's world
    member: np.ndarray  # [w] who plays; -1: nobody
    clock: np.ndarray  # [2, w] which episode, and which step of it
    score: Tally  # [w] of whoever plays
    players: Players
    bases: Any
    members: Members
    state: State
    action: Any  # what the device was asked for; None: nothing


@dataclass(frozen=True)
class Play:
    """One round of play of all members."""

    slots: Slots
    worlds: Worlds
    seeds: np.ndarray  # [n, e]
    moments: bool  # whether observations are summed
    tally: Tally
    queue: deque[int]
    lost: list[Lost]

    def run(self, halves: list[Half]):
        """Play until everyone is through."""
        while self.queue or any((half.member >= 0).any() for half in halves):
            for i, half in enumerate(halves):
                half = self.refill(self.narrow(self.acted(half)))
                halves[i] = self.ask(half)

    def ask(self, half: Half) -> Half:
        """Ask the device what everyone does; it answers in its own time."""
        if not (half.member >= 0).any():
            return half._replace(action=None)
        seen = self.worlds.windows.seen[half.row]
        if self.moments:
            off = seen.reshape(len(seen), -1) - half.score.first
            half.score.total[:] += off
            half.score.square[:] += off * off
        memory, action = self.slots.step(half.players, half.bases, half.state, seen, half.clock)
        return half._replace(players=half.players._replace(memory=memory), action=action)

    def acted(self, half: Half) -> Half:
        """Do what the device said, and see who is through."""
        if half.action is None:
            return half
        slot = np.flatnonzero(half.member >= 0)
        row, windows = half.row[slot], self.worlds.windows
        failed = self.worlds.step(row.tolist(), np.asarray(half.action)[slot])
        half.clock[1, slot] += 1
        half.score.steps[slot] += 1
        half.score.reward[slot] += windows.reward[row]
        failed += unwell(windows, row)
        if failed:
            self.drop(half, failed)
        if windows.over[row].any():
            self.end(half, slot[windows.over[row] & (half.member[slot] >= 0)])
        return half

    def end(self, half: Half, slot: np.ndarray):
        """These slots' episodes are over: their members have another, or are through."""
        windows, episodes = self.worlds.windows, self.seeds.shape[1]
        half.score.found[slot] += windows.found[half.row[slot]]
        half.clock[0, slot] += 1
        half.clock[1, slot] = 0
        more = half.clock[0, slot] < episodes
        self.begin(half, slot[more], False)
        done = slot[~more]
        for all_, own in zip(self.tally, half.score, strict=True):
            all_[half.member[done]] = own[done]
        self.leave(half, done)

    def drop(self, half: Half, failed: Sequence[Failure]):
        """Whose world failed is out; where that was none of its business, it plays again from the start."""
        for row, error in failed:
            [slot] = np.flatnonzero(half.row == row)
            member = int(half.member[slot])
            if member < 0:
                continue
            if error is None:
                self.queue.appendleft(member)
            else:
                self.lost.append(Lost(member, error))
                self.tally.steps[member] = half.score.steps[slot]
            self.leave(half, np.array([slot]))

    def leave(self, half: Half, slot: np.ndarray):
        half.member[slot] = -1
        self.worlds.windows.seen[half.row[slot]] = 0

    def refill(self, half: Half) -> Half:
        """The next members take the free slots, several at a time unless few are left."""
        width = len(half.row)
        several = newcomers(width)
        free = np.flatnonzero(half.member < 0)
        while self.queue and len(free) >= min(several, len(self.queue), width):
            slot, free = free[:several], free[several:]
            slot = slot[: len(self.queue)]
            came = np.array([self.queue.popleft() for _ in slot])
            half.member[slot], half.clock[:, slot] = came, 0
            for own in half.score:
                own[slot] = 0
            half = half._replace(players=self._seated(half, came, slot, several))
            self.begin(half, slot, True)
        return half

    def begin(self, half: Half, slot: np.ndarray, anew: bool):
        """Begin the next episode in these slots; `anew` where it is a member's first."""
        if not len(slot):
            return
        row = half.row[slot]
        failed = self.worlds.begin(row.tolist(), self.seeds[half.member[slot], half.clock[0, slot]].tolist(), anew)
        if anew and self.moments:
            half.score.first[slot] = self.worlds.windows.seen[row].reshape(len(row), -1)
        self.drop(half, [*failed, *unwell(self.worlds.windows, row)])

    def narrow(self, half: Half) -> Half:
        """Move the last players together, so that the device doesn't work for empty slots."""
        width, slot = len(half.row), np.flatnonzero(half.member >= 0)
        if self.queue or width <= LEAST or len(slot) * NARROWER > width or not len(slot):
            return half
        others = np.flatnonzero(half.member < 0)
        slot = np.concatenate([slot, others])[: max(width // NARROWER, LEAST)]
        return half._replace(
            row=half.row[slot],
            member=half.member[slot],
            clock=half.clock[:, slot],
            score=Tally(*(x[slot] for x in half.score)),
            players=self.slots.move(half.players, slot),
        )

    def _seated(self, half: Half, came: np.ndarray, slot: np.ndarray, several: int) -> Players:
        """Those who came in their slots; always a call of the same shape, what is missing having no slot."""
        missing = several - len(came)
        index = np.concatenate([came, np.zeros(missing, came.dtype)]).astype(np.int32)
        where = np.concatenate([slot, np.full(missing, len(half.row))]).astype(np.int32)
        return self.slots.fill(half.players, half.members, index, where)


def newcomers(width: int) -> int:
    """How many members take slots at a time."""
    return max(LEAST, width // 4)


def unwell(windows: Any, row: np.ndarray) -> list[Failure]:
    """The worlds of these rows that said NaN."""
    seen, reward = windows.seen, windows.reward[row]
    failed = []
    if not np.isfinite(reward.sum()):
        bad = row[~np.isfinite(reward)]
        failed = [Failure(int(r), f"the reward is {windows.reward[r]}") for r in bad]
        windows.reward[bad] = 0
    if seen.dtype != np.uint8 and np.isnan(seen[row].sum()):
        bad = row[np.isnan(seen[row].reshape(len(row), -1)).any(1)]
        failed += [Failure(int(r), "the observation is NaN") for r in bad if int(r) not in {f.row for f in failed}]
    return failed


def tally(n: int, senses: int, descriptor: int) -> Tally:
    """Nothing known of `n` members yet."""
    sums = [np.zeros((n, senses)) for _ in range(3)]
    return Tally(np.zeros(n), np.zeros(n, np.int64), np.zeros((n, descriptor)), *sums)


def halves(
    slots: Slots, members: Members, state: State, width: int, devices: Sequence[Any], senses: int, descriptor: int
) -> list[Half]:
    """Two halves of `width` slots each, or one a device where there are more than two; nobody is in them."""
    made = []
    for i in range(max(2, len(devices))):
        here, known = jax.device_put((members, state), devices[i % len(devices)])
        players = jax.device_put(slots.empty(width, members), devices[i % len(devices)])
        row, clock = np.arange(width) + i * width, np.zeros((2, width), np.int32)
        score = tally(width, senses, descriptor)
        made.append(Half(row, np.full(width, -1), clock, score, players, here.bases, here, known, None))
    return made


def play(
    slots: Slots,
    worlds: Worlds,
    members: Members,
    state: State,
    seeds: np.ndarray,
    width: int,
    devices: Sequence[Any],
    senses: int,
) -> tuple[Tally, list[Lost]]:
    """Everyone's evaluation, summed over episodes. `senses`: numbers in an observation, 0 where none are summed."""
    n, descriptor = size(members.genome), worlds.windows.found.shape[1]
    round_ = Play(slots, worlds, seeds, senses > 0, tally(n, senses, descriptor), deque(range(n)), [])
    round_.run(halves(slots, members, state, width, devices, senses, descriptor))
    for member, _ in round_.lost:
        round_.tally.reward[member] = np.nan
    return round_.tally, round_.lost
