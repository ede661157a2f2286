"""Configs: every one that ships builds and survives a round trip; every mistake is told in one message."""

import re

import pytest

from evo.configs import configs
from evo.experiment import difference, dump, load, parse
from evo.express import ByPath
from evo.noise import Frozen, Gaussian, LowRank
from evo.registry import FAMILIES, describe, missing
from evo.schedule import Constant, Cosine, Exponential, Hyperbolic, Linear, at

SMALL = "task: {kind: sphere, dim: 4}\nstrategy: {kind: eggroll, population: 8}\n"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


@pytest.mark.parametrize("name", configs())
def test_a_shipped_config_survives_a_round_trip(name, tmp_path):
    text = configs()[name]
    assert text.startswith("# ")
    assert text.count("\n") < 25
    experiment = load(name)
    (tmp_path / "again.yaml").write_text(dump(experiment))
    assert load(str(tmp_path / "again.yaml")) == experiment


NOISES = {
    "low_rank": LowRank(1),
    "gaussian": Gaussian(),
    "{low_rank: 4}": LowRank(4),
    "{kind: low_rank, rank: 4}": LowRank(4),
    "{rank: 4}": LowRank(4),
    "{'**/bias': frozen}": ByPath((("**/bias", Frozen()),)),
    "{'**/bias': frozen, '**': {low_rank: 2}}": ByPath((("**/bias", Frozen()),), LowRank(2)),
    "{a: gaussian, 'b/*': {kind: low_rank}}": ByPath((("a", Gaussian()), ("b/*", LowRank())), LowRank()),
}


@pytest.mark.parametrize("form", NOISES)
def test_forms_of_noise(form, small, tmp_path):
    experiment = load(small, [("strategy.noise", form)])
    assert experiment.strategy.noise == NOISES[form]
    (tmp_path / "again.yaml").write_text(dump(experiment))
    assert load(str(tmp_path / "again.yaml")) == experiment


def test_overrides_reach_every_field(small):
    values = {
        "strategy.sigma": "1e-1",
        "strategy.lr": "{cosine: {start: 1, generations: 4}}",
        "strategy.noise.rank": "3",
        "strategy.optimizer_options": "{b1: 0.5}",
        "task.dim": "6",
        "seed": "7",
        "log": "[tensorboard]",
    }
    experiment = load(small, values.items())
    strategy = experiment.strategy
    assert (strategy.sigma, strategy.lr, strategy.noise) == (0.1, Cosine(1.0, 4), LowRank(3))
    assert dict(strategy.optimizer_options) == {"b1": 0.5}
    assert (experiment.task.dim, experiment.seed, experiment.log) == (6, 7, ("tensorboard",))
    assert type(load("sphere", [("task", "rastrigin")]).task).__name__ == "Rastrigin"
    emitters = load("arm_map_elites", [("strategy", "qd"), ("strategy.emitters", "[iso_line, cma]"),
                                       ("strategy.emitters.1.batch", "9")]).strategy.emitters  # fmt: skip
    assert (emitters[0].population, emitters[1].batch) == (256, 9)
    with pytest.raises(ValueError, match=r"strategy.emitters is a list of 3, counted from 0; got 'iso'"):
        load("sphere_emitters", [("strategy.emitters.iso", "1")])


BAD = {
    "strategy.sigm=0.1": "strategy.sigm: unknown field of EGGROLL; the nearest known one is 'sigma'",
    "strategy.sigma=big": "strategy.sigma: wanted a number or a schedule .* got 'big' .a string",
    "strategy.sigma=.nan": "strategy.sigma: wanted a number",
    "strategy.sigma=true": "strategy.sigma: wanted a number .* got True .a truth value",
    "strategy.sigma=-1": "strategy: `sigma` must be above 0",
    "strategy.sigma=[": "--strategy.sigma, line 1: not valid YAML",
    "strategy.population=1.5": "strategy.population: wanted a whole number, got 1.5",
    "strategy.population=7": "strategy: ES pairs .* must be even; got 7. Use 8",
    "strategy.pairs=yes": "strategy.pairs: wanted true or false, got 'yes'",
    "strategy.shaping=zscore": "strategy.shaping: wanted one of .* got 'zscore' .*nearest known one is 'z_score'",
    "strategy.optimizer=adm": "strategy: `optimizer` is the name of an Optax optimiser",
    "strategy.noise=gausian": "strategy.noise: unknown noise 'gausian'; the nearest known one is 'gaussian'",
    "strategy.noise={lowrank: 4}": "strategy.noise.kind: wanted the name of a noise.*nearest known one is 'low_rank'",
    "strategy.noise={low_rank: 0}": "strategy.noise: The rank of low-rank noise must be at least 1; got 0",
    "strategy.noise={'**/b': {'**': frozen}}": r"strategy.noise.\*\*/b.kind: wanted the name of a noise",
    "strategy.lr={cosin: {start: 1}}": "strategy.lr.kind: .*nearest known one is 'cosine'",
    "strategy.lr={cosine: {start: 1}}": "strategy.lr.generations: missing; wanted a whole number",
    "strategy.lr={kind: low_rank}": "strategy.lr: unknown schedule 'low_rank'",
    "strategy=egroll": "strategy: unknown strategy 'egroll'; the nearest known one is 'eggroll'",
    "strategy={population: 8}": "strategy.kind: wanted the name of a strategy, got a mapping of population",
    "strategy={kind: 3}": "strategy.kind: wanted the name of a strategy, got 3",
    "strategy={kind: deep_ga, population: 8, parents: 9}": "strategy: Deep GA .*population.*smaller",
    "task=null": "task: wanted a task .* got null",
    "task=[sphere]": "task: wanted a task",
    "task={kind: brax, env: hoper}": "task: unknown Brax env 'hoper'; the nearest known one is 'hopper'",
    "task={kind: brax, policy: {kind: mpl}}": "task.policy: unknown network 'mpl'; the nearest known one is 'mlp'",
    "task={kind: brax, policy: {hidden: [a]}}": r"task.policy.hidden\[0\]: wanted a whole number, got 'a'",
    "task={kind: custom, fitness: 'nope.py:f'}": "task: there is no file nope.py",
    "task.dim.x=3": "task.dim: wanted a whole number|task.dim is 4, which has no fields to set",
    "generations=0": "generations: wanted at least 1, got 0",
    "generatons=3": "generatons: unknown field of Experiment; the nearest known one is 'generations'",
    "seed=-1": "seed: wanted at least 0",
    "seed=4294967296": "seed: wanted a number below",
    "log=[tb]": r"log\[0\]: wanted one of 'tensorboard', 'wandb', got 'tb'",
    "log=wandb": "log: wanted a list",
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_named(mistake, small):
    with pytest.raises(ValueError, match=BAD[mistake]) as error:
        load(small, [tuple(mistake.split("=", 1))])
    assert "\n" not in str(error.value)


BAD_FILES = {
    "task: sphere\ntask: arm\n": "line 2: not valid YAML: found duplicate key",
    "task: [sphere\n": "line 2: not valid YAML: expected ',' or ']'",
    "- sphere\n": "wanted a mapping with `task` and `strategy`",
    "": "wanted a mapping",
    "task: sphere\n": "strategy: missing",
    "task: !!python/name:os.system x\nstrategy: es\n": "line 1: not valid YAML",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_named(text, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(BAD_FILES[text])):
        load(str(path))


def test_an_unknown_config_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown config 'hopper_egroll'; the nearest known one is 'hopper_eggroll'"):
        load("hopper_egroll")
    with pytest.raises(ValueError, match="there is no such file"):
        load(str(tmp_path / "nope.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="can't be read as text"):
        load(str(tmp_path / "binary.yaml"))


def test_the_first_difference_is_named(small):
    ours, theirs = (parse(dump(load(small, [("strategy.sigma", s)])), "") for s in ("0.1", "0.2"))
    assert difference(ours, ours) is None
    assert difference(ours, theirs) == "strategy.sigma: 0.1 here, 0.2 there"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_kind_loads_and_says_what_it_is(family):
    said = describe(family)
    for kind in family.kinds():
        assert said[kind] == family.load(kind).__doc__.strip().split("\n")[0]


def test_a_missing_extra_names_its_command():
    error = missing(ModuleNotFoundError("No module named 'ale_py.env'", name="ale_py.env"), "atari")
    assert "pip install 'evo-engine[atari]'" in str(error)


SCHEDULES = {  # value at generation 0, 1, 4 and 100
    Constant(0.5): (0.5, 0.5, 0.5, 0.5),
    Linear(1.0, 0.0, 4): (1.0, 0.75, 0.0, 0.0),
    Exponential(1.0, 0.5, 0.1): (1.0, 0.5, 0.1, 0.1),
    Cosine(3.0, 2, 1.0): (3.0, 2.0, 1.0, 1.0),
    Hyperbolic(1.0, 0.25): (1.0, 0.8, 0.5, 1 / 26),
    0.25: (0.25, 0.25, 0.25, 0.25),
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_schedules_golden(schedule):
    assert [float(at(schedule, g)) for g in (0, 1, 4, 100)] == pytest.approx(SCHEDULES[schedule], abs=1e-6)
