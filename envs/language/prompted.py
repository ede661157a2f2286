"""Fine-tuning by reward: a language model answers prompts, and what it writes is judged.

Axes: `p` prompts, `k` tries at each, `b` = p k rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.envs.language.drift import divergence, drift
from evo.envs.language.generate import Completions, Prompts, check_length, generate, padded
from evo.envs.language.pretrained import Pretrained
from evo.envs.language.questions import Question, Questions, Sums
from evo.envs.language.reward import Asked, Match, Reward, Verified, table_of, total
from evo.task import Evaluation, Trial


@dataclass(frozen=True)
class Prompted:
    """Fine-tuning by reward: fitness is the mean reward of a member's completions.

    A member answers `prompts` questions, which its luck draws: members of one group share them, and the two of a pair
    do. Each is answered `tries` times and the best counts (pass@k; then `temperature` should be above 0). A completion
    ends with one of the model's end tokens or after `new` tokens. `rewards` add up; left out, it is the questions' own
    check. The last `held_out` share of the questions is never trained on: `measure` judges on the first `judged` of
    them, to choose settings by, and on a key alone, as `evo eval` does, a member is judged on the others (if there are
    none, on all of the held-out ones).
    """

    model: Pretrained = Pretrained()
    questions: Questions = Sums()
    rewards: tuple[Reward, ...] = ()
    prompts: int = 8
    tries: int = 1
    new: int = 4
    temperature: float = 0.0
    held_out: float = 0.2
    judged: int = 64

    trials: ClassVar[bool] = True

    def __post_init__(self):
        least = {"prompts": 1, "tries": 1, "new": 1, "judged": 1, "temperature": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"`{name}` is at least {limit}; got {getattr(self, name)}.")
        if self.tries > 1 and self.temperature == 0:
            raise ValueError(f"`tries: {self.tries}` are all alike at temperature 0; set `temperature`, e.g. to 1.0.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"`held_out` is a share of the questions between 0 and 1; got {self.held_out}.")
        check_length(self.model.checkpoint.model, self._asked.table.tokens.shape[1], self.new)
        for reward in self._rewards:
            reward.check(self._asked, self.new)
        count, own = len(self._asked.questions), self.split
        if own < self.prompts or own == count:
            raise ValueError(
                f"Of {count} questions, `held_out: {self.held_out}` leaves {own} to train on and {count - own} to "
                f"judge by; wanted at least {self.prompts}, the `prompts` of a member, and 1."
            )

    def init(self, key):
        return self.model.checkpoint.params, ()

    def evaluate(self, params, state, key):
        key_pick, key_write = jax.random.split(key.key if isinstance(key, Trial) else key)
        first, last = (0, self.split) if isinstance(key, Trial) else self.test
        rows = first + jax.random.choice(key_pick, last - first, (self.prompts,), replace=last - first < self.prompts)
        scores, written = self.answered(params, rows, key_write)
        return Evaluation(scores.max(1).mean(), aux={"steps": written.length.sum()})

    def absorb(self, state, aux):
        return state

    def sample(self, params: Any, prompt: str, count: int, temperature: float, key: Key[Array, ""]) -> str:
        """What the model writes after a prompt, up to `count` tokens, its end token or the end of its context."""
        model, tokens, ends = self.model.checkpoint.model, self.model.tokens, self.model.ends
        prompts = padded([tokens.encode(prompt)])
        room = model.context - prompts.tokens.shape[1]
        count = min(count, max(room, 1)) if model.context else count
        write = partial(generate, model, new=count, end=ends, temperature=temperature, vocabulary=tokens.vocabulary)
        written = jax.jit(write)(params, prompts, key)
        said = written.tokens[0, : written.length[0]].tolist()
        return tokens.decode([token for token in said if token != ends[0]])

    def measure(self, params: Any, start: Any, state: Any, key: Key[Array, ""]) -> dict[str, Float[Array, ""]]:
        """Held-out questions, one try each: mean `reward`, `pass_1` (share with a full reward), `greedy` (that at
        temperature 0), `length` in tokens; and how far the model is from its `start`: see `drift`, and `kl` on those
        questions and answers."""
        table = self._asked.table
        rows = jnp.arange(self.split, min(self.split + self.judged, len(self._asked.questions)))
        scores, written = self.answered(params, rows, key, tries=1)
        likeliest, _ = self.answered(params, rows, key, tries=1, temperature=0.0)
        full = sum(reward.weight for reward in self._rewards) - 1e-6
        text = jnp.concatenate([table.tokens[rows], table.answer[rows]], axis=1)
        own = jnp.arange(table.answer.shape[1])[None] <= table.length[rows][:, None]
        real = jnp.concatenate([table.real[rows], own], axis=1)
        said = {"reward": scores.mean(), "pass_1": (scores >= full).mean(), "greedy": (likeliest >= full).mean()}
        kl = divergence(self.model.checkpoint.model, params, start, text, real)
        return said | {"length": written.length.mean(), "kl": kl} | drift(params, start)

    def answered(
        self,
        params: Any,
        rows: Int[Array, "p"],
        key: Key[Array, ""],
        tries: int | None = None,
        temperature: float | None = None,
    ) -> tuple[Float[Array, "p k"], Completions]:
        """Completions of these questions, and what each is worth. None: as the task says."""
        tries, table = self.tries if tries is None else tries, self._asked.table
        heat = self.temperature if temperature is None else temperature
        rows = jnp.repeat(rows, tries)
        prompts, model = Prompts(table.tokens[rows], table.real[rows]), self.model.checkpoint.model
        write = partial(generate, model, new=self.new, end=self.model.ends, temperature=heat)
        written = write(params, prompts, key, vocabulary=self.model.tokens.vocabulary)
        return total(self._rewards, self._asked, rows, written).reshape(-1, tries), written

    @cached_property
    def split(self) -> int:
        """The first of the held-out questions."""
        count = len(self._asked.questions)
        return count - max(1, round(count * self.held_out))

    @property
    def test(self) -> tuple[int, int]:
        """The questions that nothing is chosen by, from the first to before the last."""
        count = len(self._asked.questions)
        seen = self.split + self.judged
        return (seen if seen < count else self.split), count

    @cached_property
    def _asked(self) -> Asked:
        questions: Sequence[Question] = self.questions.all()
        tokens, end = self.model.tokens, self.model.ends[0]
        return Asked(questions, table_of(questions, tokens, end), tokens, end)

    @cached_property
    def _rewards(self) -> Sequence[Any]:
        own = self.questions.verifier
        return self.rewards or ((Match(),) if own == "exact" else (Verified(own),))
