"""Fine-tuning by reward: verifiers by hand, questions, rewards on host and device, groups, measures, learning."""

import json
from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.envs.language import verify
from evo.envs.language.architecture import architecture
from evo.envs.language.checkpoint import save
from evo.envs.language.generate import Completions
from evo.envs.language.pretrained import Pretrained
from evo.envs.language.prompted import Prompted
from evo.envs.language.questions import GSM8K, JSONL, Countdown
from evo.envs.language.reward import Match, Traced, Verified, judged, total
from evo.express import ByPath
from evo.genome import Genome
from evo.noise import Frozen, Gaussian
from evo.runtime import Runtime
from evo.strategies.es import EGGROLL
from evo.task import Trial

KEY = jax.random.key(0)
COUNTDOWN = [  # completion, whether it reaches 98 with 44 19 35
    ("44+19+35", 1),
    ("<think>hm</think> <answer> 44 + 19 + 35 </answer>", 1),
    ("<answer>1</answer> no: <answer>(44+19)+35 = 98</answer>", 1),
    ("so it is\n44+19+35 = 98", 1),
    ("44+19+35 = 98\nor not", 0),  # the last line counts
    ("44+19+19+35-19", 0),  # a number twice
    ("98", 0),  # a number that wasn't given
    ("44+35", 0),
    ("44+19+35.0", 0),
    ("44+19+035", 0),
    ("(44+19+35", 0),
    ("", 0),
    ("44+19+35+__import__('os').getpid()*0", 0),
    ("4_4+19+35", 0),
    ("+44+19+35", 0),  # no unary signs
    ("44+19--35", 0),
]
OTHERS = [  # completion, answer, whether it is right
    ("3*(7-5)", "6: 3 5 7", 1),
    ("7/3*3", "7: 3 3 7", 1),  # a third of seven is exact
    ("7//3+1", "3: 1 3 7", 0),  # neither // nor ** is division or product
    ("4**(3*2)", "4096: 2 3 4", 0),
    ("9**9**9", "1: 9 9 9", 0),
    ("5/(3-3)", "5: 3 3 5", 0),
    ("2-5", "-3: 2 5", 1),
    ("5", "5: 5 7", 1),  # at most once
    ("(" * 99 + "5" + ")" * 99, "5: 5", 1),
    ("(" * 9999 + "5" + ")" * 9999, "5: 5", 0),
]


@pytest.mark.parametrize(("completion", "right"), COUNTDOWN)
def test_countdown(completion, right):
    assert verify.countdown("", completion, "98: 44 19 35") == right


@pytest.mark.parametrize(("completion", "answer", "right"), OTHERS)
def test_countdown_of_other_targets(completion, answer, right):
    assert verify.countdown("", completion, answer) == right


def test_the_other_verifiers():
    gold = "Half of 48 is 24. 48+24 = <<48+24=72>>72\n#### 1,072"
    said = {"#### 1072": 1, "so $1,072.": 1, "#### 1072 and 5": 1, "1072 or 5": 0, "": 0, "#### x": 0, "1072.00": 1}
    assert {text: verify.gsm8k("", text, gold) for text in said} == said
    assert verify.number("a -3,000.50 b") == Fraction(-6001, 2)
    assert verify.exact("", " 19\n", "19") == 1 > verify.exact("", "1 9", "19")
    assert verify.arithmetic("", "it is 19", "19") == 1 > verify.arithmetic("", "19 or 20", "19")
    assert verify.arithmetic("", "so 1000", "1,000") == verify.arithmetic("", "0.5", "1/2") == 1
    assert verify.countdown("", "55/2", "27.5: 2 55") == 1 > verify.countdown("", "27", "27.4: 27")
    whole = "<think>a</think> <answer>b</answer>"
    assert verify.thinks("", whole, "") == verify.thinks("Go. <think>", whole[7:], "") == 1
    assert_allclose([verify.thinks("", t, "") for t in ("<think>a</think>", "<answer>b</answer>", "b")], [0.1, 0.5, 0])


def test_countdown_questions_can_be_solved():
    """Each has a solution with all of its numbers, found by trying everything; and they are always the same."""
    made = Countdown(count=12, most=3, largest=20, high=100).all()
    assert made == Countdown(count=12, most=3, largest=20, high=100).all()
    for prompt, answer in made:
        target, numbers = answer.split(": ")
        assert f"[{', '.join(numbers.split())}]" in prompt
        assert f"equals {target}." in prompt
        assert int(target) in results(tuple(Fraction(n) for n in numbers.split()))
    with pytest.raises(ValueError, match="fewer than 50 such questions; lower `count`"):
        Countdown(count=50, least=2, most=2, largest=2, high=3).all()


def results(numbers):
    """All that expressions over all of these numbers come to."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i != j:
                rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
                for value in (a + b, a - b, a * b, *([a / b] if b else [])):
                    found |= results((value, *rest))
    return found


def test_questions_from_files(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [{"question": "1+1?", "answer": "two\n#### 2"}, {"question": "2+2?", "answer": "#### 4"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert GSM8K(str(path), "{prompt} A:").all()[1] == ("2+2? A:", "#### 4")
    assert JSONL(str(path), "question", "answer").all()[0].prompt == "1+1?"
    with pytest.raises(ValueError, match="line 1: has no 'prompt', only question, answer"):
        JSONL(str(path)).all()
    for text, message in (("{", "line 1: not JSON"), ("[1]", "wanted a mapping, got list"), ("", "no questions in it")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            GSM8K(str(path)).all()
    path.write_text('{"question": "q", "answer": "2"}')
    with pytest.raises(ValueError, match="line 1: the answer has no number after ####; got '2'"):
        GSM8K(str(path)).all()
    for text, message in (
        ('\n\n{"question": "q", "answer": "none"}\n', "line 3: the answer has no number after ####; got 'none'"),
        ('{"question": "q", "answer": "5 #### none"}', "line 1: the answer has no number after ####"),
        ('{"question": "q", "answer": null}', "line 1: 'answer' is text or a number; got None"),
        ('\n{"question": "\\ud800", "answer": "#### 2"}', r"line 2: 'question' isn't UTF-8 text: .*surrogates"),
        ('{"question": ["q"], "answer": "#### 2"}', r"line 1: 'question' is text or a number; got \['q'\]"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            GSM8K(str(path)).all()
    path.write_text('{"prompt": "a\u2028b\x85c", "answer": 7}\r\n', encoding="utf-8", newline="")
    assert JSONL(str(path)).all() == [("a\u2028b\x85c", "7")]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="can't be read as UTF-8"):
        GSM8K(str(path)).all()


@pytest.mark.parametrize(
    ("check", "answer", "message"),
    [
        ("arithmetic", "seven", "a number; got 'seven'"),
        ("gsm8k", "", "a number; got ''"),
        ("countdown", "seven: 3 4", "a target and its numbers, as in \"98: 44 19 35\"; got 'seven: 3 4'"),
        ("countdown", "7", "a target and its numbers"),
        ("countdown", "7: three 4", "a target and its numbers"),
    ],
)
def test_answers_are_checked_when_the_task_is_made(check, answer, message, tmp_path):
    good = "7: 3 4" if check == "countdown" else "7"
    rows = [{"prompt": f"{i}?", "answer": answer if i == 7 else good} for i in range(20)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    questions = JSONL(str(tmp_path / "q.jsonl"))
    with pytest.raises(ValueError, match=rf"`{check}` can't judge by the answer to '7\?'.* {message}"):
        Prompted(questions=questions, rewards=(Verified("thinks"), Verified(check)))
    assert Prompted(questions=questions, rewards=(Verified("exact"), Verified("thinks")))


def written(task, *texts):
    """Completions as a model would have written them."""
    rows = [list(text.encode()) for text in texts]
    tokens = np.array([row[: task.new] + [0] * (task.new - len(row)) for row in rows], np.int32)
    return Completions(jnp.asarray(tokens), jnp.array([min(len(row) + 1, task.new) for row in rows]))


def digits(prompt, completion, length, answer):
    """A reward in JAX: digits among the tokens."""
    return ((completion >= 48) & (completion < 58)).sum()


def test_rewards_on_the_device_and_on_the_host():
    task = Prompted(new=4)
    asked = task._asked
    rows = jnp.array([next(i for i, q in enumerate(asked.questions) if q == ("7+12=", "19"))] * 5)
    said = written(task, "19", "19 ", "9", "12", "1999")
    assert_array_equal(Match().scores(asked, rows, said), [1, 0, 0, 0, 0])
    assert_allclose(Match(partial=0.3).scores(asked, rows, said), [1, 0.2, 0.1, 0.2, 0.2], atol=1e-6)
    both = jax.jit(lambda rows, said: total((Match(2.0), Verified("exact", 0.5)), asked, rows, said))
    assert_array_equal(both(rows, said), [2.5, 0.5, 0, 0, 0])
    assert_array_equal(Traced(f"{__file__}:digits").scores(asked, rows, said), [2, 2, 1, 2, 4])
    stacked = jax.tree.map(lambda x: x[None], (rows, said))
    want = judged(verify.exact, asked, stacked[0], *stacked[1])
    assert_array_equal(want, [[1, 1, 0, 0, 0]])
    with pytest.raises(ValueError, match="unknown verifier 'exat'; the nearest known one is 'exact'"):
        Verified("exat")


def test_host_rewards_are_called_for_every_member_in_any_layout():
    """Members of a group share prompts, pairs share what they draw, and a chunk changes nothing."""
    task = Prompted(prompts=3, rewards=(Verified("arithmetic"), Match(0.5)), temperature=1.0, tries=2)
    params, state = task.init(KEY)
    keys = jax.vmap(lambda i: Trial(jax.random.fold_in(KEY, i // 2), i // 2))(jnp.arange(4))
    genome = Genome(jax.random.split(KEY, 4)[:, None], jnp.zeros((4, 1)))

    def run(chunk):
        judge = lambda params, key: task.evaluate(params, state, key)  # noqa: E731
        return jax.jit(lambda p: Runtime(chunk=chunk).map(judge, Gaussian(), p, genome, keys))(params)

    whole, cut = run(None), run(3)
    assert_array_equal(whole.fitness, cut.fitness)
    assert_array_equal(whole.fitness[0::2], whole.fitness[1::2])  # no noise, and the same luck
    assert whole.aux["steps"].min() >= 6


def test_host_rewards_get_small_arguments():
    """A callback handed 100 KB or more hangs where JAX has one thread (jax#24255); rows keep their order."""
    asked = Prompted(prompts=3)._asked
    rows = jnp.tile(jnp.arange(400), (3, 12))
    tokens = jnp.concatenate([asked.table.answer[rows], jnp.zeros((3, 4800, 8), jnp.int32)], axis=-1)
    said = Completions(tokens, jnp.where(jnp.arange(4800) % 7, asked.table.length[rows], 0))
    scores = jax.vmap(lambda rows, said: Verified("exact").scores(asked, rows, said))
    assert_array_equal(scores(rows, said), jnp.where(jnp.arange(4800) % 7, 1.0, 0.0)[None].repeat(3, 0))
    call, *more = callbacks(jax.make_jaxpr(scores)(rows, said).jaxpr)
    assert not more
    assert max(x.aval.size * 4 for x in call.invars) < 100_000 < tokens.nbytes


def callbacks(jaxpr):
    """Every callback in a jaxpr, or in one inside it."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "pure_callback":
            yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from callbacks(inner)


def test_measuring_is_one_program():
    task = Prompted(prompts=4, judged=8)
    params, state = task.init(KEY)
    said = jax.eval_shape(lambda params: task.measure(params, params, state, KEY), params)
    assert {"reward", "pass_1", "greedy", "length", "kl", "distance", "moved"} <= said.keys()


@pytest.mark.slow
def test_a_run_logs_what_is_measured(tmp_path):
    """Held-out reward, pass@1 and length by our own count; distance, KL and moved from nothing to something."""
    task = Prompted(prompts=4, judged=80, rewards=(Match(partial=0.3),))
    params, state = task.init(KEY)
    start = task.measure(params, params, state, KEY)
    rows = jnp.arange(320, 400)
    _, said = task.answered(params, rows, KEY, tries=1)
    texts = [task.model.tokens.decode([int(t) for t in row if t]) for row in np.asarray(said.tokens)]
    right = [text == question.answer for text, question in zip(texts, task.questions.all()[320:], strict=True)]
    assert 0.05 < np.mean(right) < 0.5
    assert_allclose(start["pass_1"], np.mean(right))
    warm = replace(task, temperature=1.0, tries=2).measure(params, params, state, KEY)
    assert_allclose(warm["greedy"], start["pass_1"])
    assert warm["pass_1"] != warm["greedy"] == start["greedy"]
    assert_allclose(start["length"], np.mean(np.asarray(said.length)))
    assert [float(start[name]) for name in ("kl", "distance", "moved")] == [0, 0, 0]
    noise = ByPath((("embed", Frozen()), ("**norm*", Frozen())))
    strategy = EGGROLL(8, sigma=0.05, lr=0.01, noise=noise, shaping="group_mean", group=4)
    result = evo.run(task, None, strategy, generations=2, eval_every=2, eval_episodes=2, out=tmp_path / "r")
    last = {name: column[-1] for name, column in result.metrics.items()}
    assert 0 < last["kl"] < 1 > last["moved"] > 0 < last["distance"]
    assert_array_equal(result.solution["embed"], params["embed"])
    moved = sum(float((result.solution["layers"][x] != params["layers"][x]).sum()) for x in params["layers"])
    assert_allclose(last["moved"], moved / sum(x.size for x in jax.tree.leaves(params)), rtol=1e-5)


def test_pass_at_k_is_the_best_of_the_tries():
    task = Prompted(prompts=5, tries=3, temperature=1.0)
    params, state = task.init(KEY)
    trial = Trial(KEY, jnp.int32(0))
    pick, write = jax.random.split(KEY)
    rows = jax.random.choice(pick, 320, (5,), replace=False)
    scores, _ = task.answered(params, rows, write)
    assert scores.shape == (5, 3)
    assert task.evaluate(params, state, trial).fitness == scores.max(1).mean()


def test_what_is_chosen_by_is_not_what_is_judged_on():
    """`measure` sees the first held-out questions, a key alone the others; where there are no others, all."""
    assert (Prompted(judged=64).test, Prompted(judged=80).test) == ((384, 400), (320, 400))
    task = Prompted(prompts=16, judged=64)
    params, state = task.init(KEY)
    alone, _ = task.answered(params, jnp.arange(384, 400), KEY)
    assert_allclose(task.evaluate(params, state, KEY).fitness, alone.mean())


def test_a_sample_is_the_answer():
    task = Prompted(new=4)
    params, _ = task.init(KEY)
    prompt = task.questions.all()[0].prompt
    _, said = task.answered(params, jnp.arange(1), KEY)
    want = bytes(int(t) for t in said.tokens[0] if t).decode()
    assert task.sample(params, prompt, 200, 0.0, KEY).startswith(want)  # of which 26 or so fit the context
    with pytest.raises(ValueError, match=r"33 tokens .* Shorten the prompts"):
        task.sample(params, "1" * 33, 4, 0.0, KEY)
    with pytest.raises(ValueError, match=r"got an empty one\. Begin it"):
        task.sample(params, "", 4, 0.0, KEY)


CONFIG = {"model_type": "llama", "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 32, "max_position_embeddings": 64}


def test_a_model_may_know_more_tokens_than_its_tokenizer_and_have_several_ends(tmp_path):
    """The ends are those of both files, tokens or not; what the tokenizer lacks otherwise is never written."""
    config = CONFIG | {"eos_token_id": [299, 298]}
    save(tmp_path, config, architecture(config).init(KEY))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [298, 297]}')
    task = Prompted(Pretrained(str(tmp_path)), rewards=(Verified("arithmetic"),), temperature=1.0, new=16)
    params, _ = task.init(KEY)
    scores, said = jax.jit(lambda p: task.answered(p, jnp.arange(64), KEY))(params)
    assert task.model.ends == (299, 298, 297)
    assert {299} < set(np.asarray(said.tokens).ravel()) <= {*range(256), 299}
    assert said.length.min() < 16
    assert jnp.isfinite(scores).all()
    assert task.sample(params, "1+1=", 40, 1.0, KEY)
    for said, message in (("</s>", "or a list of them; got '</s>'"), ([2.5], r"got \[2.5\]")):
        save(tmp_path, CONFIG | {"eos_token_id": said}, params)
        with pytest.raises(ValueError, match=message):
            _ = Pretrained(str(tmp_path)).ends


def test_alike_completions_are_verified_once():
    asked, seen = Prompted()._asked, []
    said = written(Prompted(), "19", "19", "9", "19")
    scores = judged(lambda *texts: seen.append(texts) or 1.0, asked, jnp.array([0, 0, 0, 1]), *said)
    assert_array_equal(scores, 1)
    assert [(asked.questions.index((p, a)), text) for p, text, a in seen] == [(0, "19"), (0, "9"), (1, "19")]


WRONG = [
    ({"tries": 2}, "all alike at temperature 0"),
    ({"prompts": 0}, "`prompts` is at least 1; got 0"),
    ({"held_out": 1.0}, "between 0 and 1; got 1.0"),
    ({"prompts": 350}, "leaves 320 to train on and 80 to judge by; wanted at least 350"),
    ({"new": 1}, "The shortest answer and its end are 2 tokens, so with `new: 1` `match` can reward no completion"),
    ({"new": 40}, "context is 32. Generate at most 26"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_what_cannot_be_is_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Prompted(**settings)


@pytest.mark.parametrize("setting", [{"group": 8}, {"nudge": True}, {"relative": True}])
def test_settings_of_quantised_models_want_bits(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"`{name}` is a setting of quantised models; .* `bits: 4` or `bits: 8`"):
        Pretrained(**setting)
