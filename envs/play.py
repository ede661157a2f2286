"""Members play: the device says what all of them do, the host steps their worlds, and whoever ends makes room.

Members take slots in their order; a slot is free when its member's episodes are over, and the next members take it. Two
halves of the slots alternate: while the worlds of one step, the device works on the other. The last few, where their
forwards are cheap, play as one half. Nothing of a member's evaluation depends on its slot or on its neighbours but for
rounding: its worlds are seeded from its own key, and on CPUs its row of a batched forward has the same bits wherever it
is, at the widths that occur (8, 16, 32 and so on), for the networks that docs/host.md names. So a half may have more
slots than seats.

Axes: `n` members, `w` slots of a half, `o` an observation's own axes, `e` episodes, `d` descriptor.
"""

from __future__ import annotations

import math
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
LEAST = 8  # slots of a half
LIGHT = 2**20  # weights of the last players, up to which a forward costs its call and not what it computes


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
    playing: np.ndarray  # the slots that the device was asked about
    action: Any  # what it was asked for; None: nothing


@dataclass(frozen=True)
class Play:
    """One round of play of all members."""

    slots: Slots
    worlds: Worlds
    seeds: np.ndarray  # [n, e]
    seats: int  # how many slots of a half may be taken
    moments: bool  # whether observations are summed
    few: int  # players who go on as one half, when nobody waits any more; 0: the halves stay apart
    tally: Tally
    queue: deque[int]
    lost: list[Lost]

    def run(self, halves: list[Half]):
        """Play until everyone is through."""
        while self.queue or any(half.action is not None for half in halves):
            for i, half in enumerate(halves):
                half = self.narrow(self.acted(half), self.few if len(halves) > 1 else 0)
                halves[i] = self.ask(self.refill(half))
            if self.few and len(halves) == 2 and not self.queue and sum(len(x.playing) for x in halves) <= self.few:
                halves = [self.ask(self.refill(self.joined(*map(self.acted, halves))))]

    def ask(self, half: Half) -> Half:
        """Ask the device what everyone does; it answers in its own time."""
        while len(slot := np.flatnonzero(half.member >= 0)):
            seen = self.worlds.windows.seen[half.row]
            if not (failed := blind(seen, half.row)):
                break
            self.drop(half, failed)
            half = self.refill(half)
        else:
            return half._replace(playing=slot, action=None)
        if self.moments:
            off = seen.reshape(len(seen), -1) - half.score.first
            half.score.total[:] += off
            half.score.square[:] += off * off
        memory, action = self.slots.step(half.players, half.bases, half.state, seen, half.clock)
        return half._replace(players=half.players._replace(memory=memory), playing=slot, action=action)

    def acted(self, half: Half) -> Half:
        """Do what the device said, and see who is through. Empty slots' rewards and clocks count for nothing."""
        if half.action is None:
            return half
        slot, windows = half.playing, self.worlds.windows
        row = half.row if len(slot) == len(half.row) else half.row[slot]
        failed = self.worlds.step(row.tolist(), np.asarray(half.action)[slot])
        half.clock[1] += 1
        reward = windows.reward[half.row]
        if not math.isfinite(reward.sum()):
            failed += unpaid(windows, row)
            reward = windows.reward[half.row]
        half.score.reward[:] += reward
        if failed:
            self.drop(half, failed)
        over = windows.over[row]
        if over.any():
            self.end(half, slot[over & (half.member[slot] >= 0)])
        return half

    def end(self, half: Half, slot: np.ndarray):
        """These slots' episodes are over: their members have another, or are through."""
        windows, episodes = self.worlds.windows, self.seeds.shape[1]
        row = half.row[slot]
        if failed := blind(windows.seen[row], row):
            self.drop(half, failed)
            slot = slot[half.member[slot] >= 0]
        if windows.found.size:
            half.score.found[slot] += windows.found[half.row[slot]]
        half.score.steps[slot] += half.clock[1, slot]
        half.clock[0, slot] += 1
        half.clock[1, slot] = 0
        done = slot
        if episodes > 1:
            more = half.clock[0, slot] < episodes
            self.begin(half, slot[more], False)
            done = slot[~more]
        member = half.member[done]
        for all_, own in zip(self.tally, half.score, strict=True):
            if own.size:
                all_[member] = own[done]
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
                self.tally.steps[member] = half.score.steps[slot] + half.clock[1, slot]
            self.leave(half, np.array([slot]))

    def leave(self, half: Half, slot: np.ndarray):
        half.member[slot] = -1
        self.worlds.windows.seen[half.row[slot]] = 0

    def refill(self, half: Half) -> Half:
        """The next members take the free slots, several at a time unless few are left."""
        if not self.queue:
            return half
        seats = min(self.seats, len(half.row))
        several = max(2, seats // 4)
        free = np.flatnonzero(half.member[:seats] < 0)
        while self.queue and len(free) >= min(several, len(self.queue), seats):
            slot, free = free[:several], free[several:]
            slot = slot[: len(self.queue)]
            came = np.array([self.queue.popleft() for _ in slot])
            half.member[slot], half.clock[:, slot] = came, 0
            for own in half.score:
                if own.size:
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
        self.drop(half, failed)

    def narrow(self, half: Half, least: int) -> Half:
        """Move the last players together, so that the device doesn't work for empty slots; `least` stay, or `LEAST`."""
        width = narrower(len(half.row))
        if self.queue or width == len(half.row) or width < least or (half.member >= 0).sum() > width:
            return half
        slot = np.argsort(half.member < 0, kind="stable")[:width]
        return at(half, slot)._replace(players=self.slots.move(half.players, slot))

    def joined(self, one: Half, other: Half) -> Half:
        """The last players of both halves as one half."""
        one, other = (self.narrow(half, self.few) for half in (one, other))
        both = one._replace(
            row=np.concatenate([one.row, other.row]),
            member=np.concatenate([one.member, other.member]),
            clock=np.concatenate([one.clock, other.clock], 1),
            score=Tally(*map(np.concatenate, zip(one.score, other.score, strict=True))),
        )
        slot = np.argsort(both.member < 0, kind="stable")[: len(one.row)]
        return at(both, slot)._replace(players=self.slots.join(one.players, other.players, slot))

    def _seated(self, half: Half, came: np.ndarray, slot: np.ndarray, several: int) -> Players:
        """Those who came in their slots; always a call of the same shape, what is missing having no slot."""
        missing = several - len(came)
        index = np.concatenate([came, np.zeros(missing, came.dtype)]).astype(np.int32)
        where = np.concatenate([slot, np.full(missing, len(half.row))]).astype(np.int32)
        return self.slots.fill(half.players, half.members, index, where)


def broad(seats: int) -> int:
    """How many slots of a half have so many seats."""
    return max(LEAST, 1 << (seats - 1).bit_length())


def narrower(width: int) -> int:
    """How many slots are left of so many, when they are too many for the players."""
    return max(width // NARROWER, min(width, LEAST))


def at(half: Half, slot: np.ndarray) -> Half:
    """What the host knows of these slots."""
    score = Tally(*(x[slot] for x in half.score))
    return half._replace(row=half.row[slot], member=half.member[slot], clock=half.clock[:, slot], score=score)


def unpaid(windows: Any, row: np.ndarray) -> list[Failure]:
    """The worlds of these rows that gave a reward that isn't finite, which then counts as 0."""
    bad = row[~np.isfinite(windows.reward[row])]
    failed = [Failure(int(r), f"the reward is {windows.reward[r]}") for r in bad]
    windows.reward[bad] = 0
    return failed


def blind(seen: np.ndarray, row: np.ndarray) -> list[Failure]:
    """The worlds of these rows that let NaN be seen."""
    flat = seen.reshape(-1)
    if seen.dtype == np.uint8 or not math.isnan(flat.min(initial=0)):
        return []
    return [Failure(int(r), "the observation is NaN") for r in row[np.isnan(seen.reshape(len(row), -1)).any(1)]]


def tally(n: int, senses: int, descriptor: int) -> Tally:
    """Nothing known of `n` members yet."""
    sums = [np.zeros((n, senses)) for _ in range(3)]
    return Tally(np.zeros(n), np.zeros(n, np.int64), np.zeros((n, descriptor)), *sums)


def weights(members: Members) -> int:
    """How many numbers a member's parameters are."""
    rows = members.genome.parents is not None
    return sum(math.prod(x.shape[rows:]) for x in jax.tree.leaves(members.bases))


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
        made.append(Half(row, np.full(width, -1), clock, score, players, here.bases, here, known, row[:0], None))
    return made


def play(
    slots: Slots,
    worlds: Worlds,
    members: Members,
    state: State,
    seeds: np.ndarray,
    seats: int,
    devices: Sequence[Any],
    senses: int,
) -> tuple[Tally, list[Lost]]:
    """Everyone's evaluation, summed over episodes. `seats`: members of each half who play at a time; `senses`: numbers
    in an observation, 0 where none are summed."""
    n, descriptor, width = size(members.genome), worlds.windows.found.shape[1], broad(seats)
    few = narrower(width) if len(devices) == 1 and weights(members) * narrower(width) <= LIGHT else 0
    round_ = Play(slots, worlds, seeds, seats, senses > 0, few, tally(n, senses, descriptor), deque(range(n)), [])
    round_.run(halves(slots, members, state, width, devices, senses, descriptor))
    for member, _ in round_.lost:
        round_.tally.reward[member] = np.nan
    return round_.tally, round_.lost
