"""Members play: the device says what all of them do, the host steps their worlds, and whoever ends makes room.

Members take slots in their order; a slot is free when its member's episodes are over, and the next members take it.
Slots are in groups that alternate: while the worlds of one step, the device works on another. Groups whose last players
would fill half of one go on as one. Nothing of a member's evaluation depends on its slot or on its neighbours: its
worlds are seeded from its own key, and a batched forward is one program, whose width on CPUs follows from the network
alone and whose rows have the same bits wherever they are (`evo.compiler`). So a group may have more slots than seats.

Axes: `n` members, `w` slots of a group, `o` an observation's own axes, `e` episodes, `d` descriptor.
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

LEAST, MOST = 8, 64  # slots of a group on CPUs
AT_ONCE = 4  # a fourth of a group's seats is filled at a time
LIGHT = 2**23  # weights of a group's members, up to which empty slots of a forward cost little beside its call


class Tally(NamedTuple):
    """What is known of every member; sums over its episodes."""

    reward: np.ndarray  # [n]
    steps: np.ndarray  # [n]
    found: np.ndarray  # [n, d]
    first: np.ndarray  # [n, o] its first observation, from which the sums are taken; of length 0 where nobody asks
    total: np.ndarray  # [n, o] of observations
    square: np.ndarray  # [n, o] of their squares


class Group(NamedTuple):
    """Slots whose forward is one call."""

    seats: int  # how many of them may be taken
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
    moments: bool  # whether observations are summed
    apart: bool  # whether groups stay apart to the end
    tally: Tally
    queue: deque[int]
    lost: list[Lost]

    def run(self, groups: list[Group]):
        """Play until everyone is through."""
        while self.queue or any(group.action is not None for group in groups):
            for i, group in enumerate(groups):
                groups[i] = self.ask(self.refill(self.acted(group)))
            if not self.queue and len(groups) > 1:
                groups = self.gathered(groups)

    def gathered(self, groups: list[Group]) -> list[Group]:
        """Nobody waits: groups without players are left, and the two smallest may become one."""
        groups = sorted((x for x in groups if x.action is not None), key=lambda x: len(x.playing))
        if self.apart or len(groups) < 2 or len(groups[0].playing) + len(groups[1].playing) > len(groups[0].row) // 2:
            return groups
        one, other = map(self.acted, groups[:2])
        return [self.ask(self.refill(self.joined(one, other))), *groups[2:]]

    def ask(self, group: Group) -> Group:
        """Ask the device what everyone does; it answers in its own time."""
        while len(slot := np.flatnonzero(group.member >= 0)):
            seen = self.worlds.windows.seen[group.row]
            if not (failed := blind(seen, group.row)):
                break
            self.drop(group, failed)
            group = self.refill(group)
        else:
            return group._replace(playing=slot, action=None)
        if self.moments:
            off = seen.reshape(len(seen), -1) - group.score.first
            group.score.total[:] += off
            group.score.square[:] += off * off
        memory, action = self.slots.step(group.players, group.bases, group.state, seen, group.clock)
        return group._replace(players=group.players._replace(memory=memory), playing=slot, action=action)

    def acted(self, group: Group) -> Group:
        """Do what the device said, and see who is through. Empty slots' rewards and clocks count for nothing."""
        if group.action is None:
            return group
        slot, windows = group.playing, self.worlds.windows
        row = group.row if len(slot) == len(group.row) else group.row[slot]
        failed = self.worlds.step(row.tolist(), np.asarray(group.action)[slot])
        group.clock[1] += 1
        reward = windows.reward[group.row]
        if not math.isfinite(reward.sum()):
            failed += unpaid(windows, row)
            reward = windows.reward[group.row]
        group.score.reward[:] += reward
        if failed:
            self.drop(group, failed)
        over = windows.over[row]
        if over.any():
            self.end(group, slot[over & (group.member[slot] >= 0)])
        return group

    def end(self, group: Group, slot: np.ndarray):
        """These slots' episodes are over: their members have another, or are through."""
        windows, episodes = self.worlds.windows, self.seeds.shape[1]
        row = group.row[slot]
        if failed := blind(windows.seen[row], row):
            self.drop(group, failed)
            slot = slot[group.member[slot] >= 0]
        if windows.found.size:
            group.score.found[slot] += windows.found[group.row[slot]]
        group.score.steps[slot] += group.clock[1, slot]
        group.clock[0, slot] += 1
        group.clock[1, slot] = 0
        done = slot
        if episodes > 1:
            more = group.clock[0, slot] < episodes
            self.begin(group, slot[more], False)
            done = slot[~more]
        member = group.member[done]
        for all_, own in zip(self.tally, group.score, strict=True):
            if own.size:
                all_[member] = own[done]
        self.leave(group, done)

    def drop(self, group: Group, failed: Sequence[Failure]):
        """Whose world failed is out; where that was none of its business, it plays again from the start."""
        for row, error in failed:
            [slot] = np.flatnonzero(group.row == row)
            member = int(group.member[slot])
            if member < 0:
                continue
            if error is None:
                self.queue.appendleft(member)
            else:
                self.lost.append(Lost(member, error))
                self.tally.steps[member] = group.score.steps[slot] + group.clock[1, slot]
            self.leave(group, np.array([slot]))

    def leave(self, group: Group, slot: np.ndarray):
        group.member[slot] = -1
        self.worlds.windows.seen[group.row[slot]] = 0

    def refill(self, group: Group) -> Group:
        """The next members take the free slots, several at a time unless few are left."""
        if not self.queue:
            return group
        several = max(group.seats // AT_ONCE, 1)
        free = np.flatnonzero(group.member[: group.seats] < 0)
        while self.queue and len(free) >= min(several, len(self.queue)):
            slot, free = free[:several], free[several:]
            slot = slot[: len(self.queue)]
            came = np.array([self.queue.popleft() for _ in slot])
            group.member[slot], group.clock[:, slot] = came, 0
            for own in group.score:
                if own.size:
                    own[slot] = 0
            group = group._replace(players=self._seated(group, came, slot))
            self.begin(group, slot, True)
        return group

    def begin(self, group: Group, slot: np.ndarray, anew: bool):
        """Begin the next episode in these slots; `anew` where it is a member's first."""
        if not len(slot):
            return
        row = group.row[slot]
        failed = self.worlds.begin(row.tolist(), self.seeds[group.member[slot], group.clock[0, slot]].tolist(), anew)
        if anew and self.moments:
            group.score.first[slot] = self.worlds.windows.seen[row].reshape(len(row), -1)
        self.drop(group, failed)

    def joined(self, one: Group, other: Group) -> Group:
        """The players of both as one group."""
        both = one._replace(
            row=np.concatenate([one.row, other.row]),
            member=np.concatenate([one.member, other.member]),
            clock=np.concatenate([one.clock, other.clock], 1),
            score=Tally(*map(np.concatenate, zip(one.score, other.score, strict=True))),
        )
        slot = np.argsort(both.member < 0, kind="stable")[: len(one.row)]
        return at(both, slot)._replace(players=self.slots.join(one.players, other.players, slot))

    def _seated(self, group: Group, came: np.ndarray, slot: np.ndarray) -> Players:
        """Those who came in their slots; always a call of the same shape, what is missing having no slot."""
        missing = len(group.row) // AT_ONCE - len(came)
        index = np.concatenate([came, np.zeros(missing, came.dtype)]).astype(np.int32)
        where = np.concatenate([slot, np.full(missing, len(group.row))]).astype(np.int32)
        return self.slots.fill(group.players, group.members, index, where)


def breadth(members: Members, seats: int, cpu: bool, devices: int) -> int:
    """How many slots a group has. On CPUs as many as cost little with this network, whatever the number of seats, so
    that a forward is always the same program; else as many as the seats need, over two groups or one a device."""
    if cpu:
        return max(LEAST, min(MOST, 1 << (LIGHT // max(weights(members), 1)).bit_length() >> 1))
    return max(LEAST, 1 << (-(-seats // max(2, devices)) - 1).bit_length())


def seating(seats: int, width: int, devices: int) -> list[int]:
    """The seats of each group: at least two groups that alternate, and one a device, if there are so many seats."""
    count = min(max(2, devices, -(-seats // width)), seats)
    return [(seats + i) // count for i in range(count)]


def at(group: Group, slot: np.ndarray) -> Group:
    """What the host knows of these slots."""
    score = Tally(*(x[slot] for x in group.score))
    return group._replace(row=group.row[slot], member=group.member[slot], clock=group.clock[:, slot], score=score)


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


def empty(
    slots: Slots, members: Members, state: State, width: int, seats: Sequence[int], devices: Sequence[Any], score: Tally
) -> list[Group]:
    """Groups of `width` slots with so many seats; nobody is in them. `score` is that of nobody."""
    made = []
    for i, taken in enumerate(seats):
        here, known = jax.device_put((members, state), devices[i % len(devices)])
        players = jax.device_put(slots.empty(width, members), devices[i % len(devices)])
        row, clock = np.arange(width) + i * width, np.zeros((2, width), np.int32)
        own = Tally(*(x.copy() for x in score))
        made.append(Group(taken, row, np.full(width, -1), clock, own, players, here.bases, here, known, row[:0], None))
    return made


def play(
    slots: Slots,
    worlds: Worlds,
    members: Members,
    state: State,
    seeds: np.ndarray,
    width: int,
    seats: Sequence[int],
    devices: Sequence[Any],
    senses: int,
) -> tuple[Tally, list[Lost]]:
    """Everyone's evaluation, summed over episodes. `width`: slots of each group, a world each; `seats`: how many of
    them may be taken, group by group; `senses`: numbers in an observation, 0 where none are summed."""
    n, descriptor = size(members.genome), worlds.windows.found.shape[1]
    score = tally(width, senses, descriptor)
    round_ = Play(slots, worlds, seeds, senses > 0, len(devices) > 1, tally(n, senses, descriptor), deque(range(n)), [])
    round_.run(empty(slots, members, state, width, seats, devices, score))
    for member, _ in round_.lost:
        round_.tally.reward[member] = np.nan
    return round_.tally, round_.lost
