"""Maps and curves as pictures: against pictures that were looked at, and against sums by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose
from PIL import Image
from samples import archive, columns, tessellation, with_past

from evo.view import ArchiveData, archive_map, difference_map, growth, histogram, parallel
from evo.view.archive import check_alike, checked, folded, limits, pair, summary
from evo.view.compared import ALONE, DIFFERENCE
from evo.view.curves import counted, curve, curves, seeds
from evo.view.places import Map, alike
from evo.view.statistics import interval, table
from evo.view.voronoi import voronoi

BASELINES = Path(__file__).parent / "baselines"
WIDE = 320  # pixels of a picture that is compared
RUNS = [*[("EGGROLL", columns(i)) for i in range(3)], ("$ES_1", columns(9))]
PICTURES = {
    "grid": lambda path: archive_map(archive(), path),
    "cvt": lambda path: archive_map(tessellation(), path),
    "profile": lambda path: archive_map(archive((12,)), path),
    "pairs": lambda path: archive_map(archive((4, 5, 3), ()), path),
    "dots": lambda path: archive_map(tessellation(200, 3), path),
    "parallel": lambda path: parallel(archive((4, 5, 3, 4), ()), path),
    "difference": lambda path: difference_map(archive(), _other(archive()), path),
    "histogram": lambda path: histogram(archive(), path),
    "curves": lambda path: curves(RUNS, path, x="steps"),
}


def _other(data):
    """The same hill, moved and with another edge."""
    return data._replace(fitness=np.roll(data.fitness, 11))


def small(path):
    with Image.open(path) as image:
        size = WIDE, round(WIDE * image.height / image.width)
        return image.convert("RGB").resize(size, Image.Resampling.BOX)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_was_looked_at(name, tmp_path):
    """Small, and tolerant of other fonts; EVO_BASELINES=1 writes new ones, to look at."""
    PICTURES[name](tmp_path / "a.png")
    drawn, kept = small(tmp_path / "a.png"), BASELINES / f"{name}.png"
    if os.environ.get("EVO_BASELINES"):
        drawn.save(kept, optimize=True)
    with Image.open(kept) as image:
        wanted = image.convert("RGB").resize(drawn.size)
    gap = np.abs(np.asarray(drawn, float) - np.asarray(wanted, float)).mean(-1)
    assert gap.mean() < 2.5
    assert (gap > 40).mean() < 0.01


def test_a_picture_of_something_else_is_told_apart(tmp_path):
    PICTURES["grid"](tmp_path / "a.png")
    one, other = (np.asarray(small(path), float) for path in (tmp_path / "a.png", BASELINES / "difference.png"))
    rows = min(len(one), len(other))
    assert np.abs(one[:rows] - other[:rows]).mean() > 5


@pytest.mark.slow  # a figure of the machine
@pytest.mark.parametrize(("cells", "limit"), [("grid", 1.0), ("cvt", 2.0)])
def test_ten_thousand_cells_are_drawn_at_once(cells, limit, tmp_path):
    data = archive((100, 100)) if cells == "grid" else tessellation(10_000)
    archive_map(archive((4, 4)), tmp_path / "a.png")  # fonts are looked up once a process
    began = time.process_time()
    archive_map(data, tmp_path / "a.png")
    assert time.process_time() - began < limit


def test_a_map_takes_an_axes_and_names_its_descriptors():
    from matplotlib.figure import Figure

    ax, beside = Figure().subplots(1, 2)
    archive_map(archive(), ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("left foot", "right foot")
    assert "coverage" in ax.get_title()
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 2), (-1, 1))
    curve(RUNS, beside, y="coverage", x="steps")
    assert (beside.get_xlabel(), len(beside.lines)) == ("environment steps", 2)


def test_an_archive_grows_in_its_film(tmp_path):
    growth(with_past(archive()), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 6
        filled = []
        for i in range(6):
            film.seek(i)
            image = np.asarray(film.convert("RGB"), int)[60:, :480]
            filled.append(int((np.ptp(image, -1) > 60).sum()))
    assert filled == sorted(filled)
    assert filled[0] < filled[-1] / 3


def test_an_archive_of_dots_grows_too(tmp_path):
    """Above two descriptors: a dot an elite, and in the end all of them."""
    data = with_past(tessellation(60, 3), 3)
    growth(data, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as film:
        shown = [np.ptp(np.asarray(film.convert("RGB"), int)[60:, :440], -1) > 60 for _ in film_frames(film)]
    assert len(shown) == 3
    assert 0 < shown[0].sum() < shown[2].sum()


def film_frames(film):
    """Steps through an image's frames."""
    for i in range(film.n_frames):
        film.seek(i)
        yield i


def test_an_empty_archive_raises(tmp_path):
    for draw in (archive_map, histogram, parallel, growth):
        with pytest.raises(ValueError, match="archive is empty"):
            draw(archive()._replace(fitness=np.full(120, -np.inf)), tmp_path / "a.png")


def test_archives_of_other_cells_do_not_compare(tmp_path):
    with pytest.raises(ValueError, match="same cells"):
        difference_map(archive(), archive((10, 12)), tmp_path / "a.png")


def test_archives_of_other_cells_are_told_in_words():
    cloud = tessellation(30)
    for other, said in [
        (cloud, "a CVT of 30 cells over"),
        (cloud._replace(centroids=None), "an unstructured archive of"),
    ]:
        with pytest.raises(
            ValueError, match=rf"a grid of 12 x 10 \(120 cells\) over 0 to 2, -1 to 1, the second {said}"
        ):
            check_alike(archive(), other)


def test_a_difference_says_of_what_and_has_colours_apart():
    from matplotlib.figure import Figure

    for shape in ((12, 10), (12,), (4, 5, 3)):
        ax, data = Figure().subplots(), archive(shape, ())
        other = _other(data)
        difference_map(data, other, ax=ax, names=("arm", "armb"))
        both = np.isfinite(data.fitness) & np.isfinite(other.fitness)
        fitter = (other.fitness[both] > data.fitness[both]).sum()
        assert ax.get_title().startswith(f"armb minus arm: fitter in {fitter} cells")
        assert ("the first 2 of 3 descriptors: best over the others" in ax.get_title()) == (len(shape) == 3)
        alone = (np.isfinite(data.fitness) & ~both).sum()
        assert ax.get_legend().get_texts()[0].get_text() == f"only in arm ({alone})"
    blue, middle, orange = (np.array(to_rgb(hue)) for hue in DIFFERENCE)
    scale = [a + t * (b - a) for a, b in ((blue, middle), (middle, orange)) for t in np.linspace(0, 1, 50)]
    assert min(np.abs(np.array(scale) - to_rgb(hue)).max(1).min() for hue in ALONE) > 0.1


def test_elites_of_one_fitness_have_one_colour_and_one_number():
    from matplotlib.figure import Figure

    figure = Figure()
    data = archive()._replace(fitness=np.where(np.isfinite(archive().fitness), -0.21, np.nan))
    assert_allclose(limits(checked(data)), [-0.71, 0.29])
    archive_map(data, ax=figure.subplots())
    figure.draw_without_rendering()
    drawn, bar = figure.axes[0].images[0], figure.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["-0.21"]
    assert drawn.get_cmap().N == 1
    one, many = archive(), data._replace(fitness=np.where(np.isfinite(data.fitness), 2.8, np.nan))
    assert limits(checked(one), checked(many)) == limits(checked(one))  # within, nothing is added


def test_few_elites_have_a_histogram_with_whole_ticks_and_their_shares_to_both_edges():
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    histogram(archive()._replace(fitness=np.where(np.arange(120) == 7, 2.0, np.nan)), ax=ax)
    figure.draw_without_rendering()
    share = figure.axes[1].lines[0]
    assert_allclose(share.get_ydata(), [0, 0, 100, 100])
    assert (share.get_xdata()[0], share.get_xdata()[-1]) == ax.get_xlim()
    assert all(tick == round(tick) for tick in ax.get_yticks())


def test_large_numbers_end_in_a_letter_and_nothing_stands_apart():
    from matplotlib.figure import Figure

    for scale, letter in ((1e7, "M"), (1e-7, "")):
        figure = Figure()
        axes = figure.subplots(1, 2)
        data = archive()._replace(fitness=scale * archive().fitness)
        archive_map(data, ax=axes[0])
        histogram(data, ax=axes[1])
        figure.draw_without_rendering()
        assert all(ax.yaxis.get_offset_text().get_text() == "" for ax in figure.axes)
        assert axes[1].xaxis.get_offset_text().get_text() == ""
        shown = [bar for bar in figure.axes if bar.get_label() == "<colorbar>"]
        assert all(text.get_text().endswith(letter) for bar in shown for text in bar.get_yticklabels())


def test_a_film_and_a_pair_say_what_they_fold(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    said, own = [], Figure.suptitle
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **rest: said.append(text) or own(self, text, **rest))
    deep = archive((4, 5, 3), ())
    pair(deep, deep, tmp_path / "a.png")
    growth(with_past(deep, 1), tmp_path / "a.gif")
    assert len(said) == 2
    assert all("the first 2 of 3 descriptors: best over the others" in text for text in said)


def test_places_are_drawn_to_scale_where_both_descriptors_are_alike():
    for names, bounds, wanted in [
        (("x", "y"), ((0, 1), (-1, 0)), True),
        (("x", "y"), ((0, 200), (0, 210)), True),
        (("x", "y"), ((0, 1), (0, 2)), False),
        (("final x (m)", "final y (m)"), ((0, 1), (0, 2)), True),
        (("final x (m)", "speed (m/s)"), ((0, 1), (0, 2)), False),
        (("final x (m)", "final y (m)"), ((0, 1), (0, 20)), False),
    ]:
        assert alike(Map(names, bounds)) == wanted


def test_what_a_map_says_golden():
    data = archive((2, 2))._replace(fitness=np.array([1.0, -np.inf, 3, np.nan]), offset=-1.0)
    assert summary(data) == "coverage 50.0 % (2 of 4)  ·  QD score 6  ·  best 3"  # 1 + 1 and 3 + 1


def test_folding_is_the_best_over_the_other_axes_golden():
    fitness = np.array([1.0, 5, -np.inf, 2, 0, 3, 4, -np.inf])  # [x][y][z]
    data = ArchiveData(fitness, np.zeros((8, 3)), (2, 2, 2), ((0.0, 1.0),) * 3)
    assert_allclose(folded(data, (0, 1)), [[5, 2], [3, 4]])
    assert_allclose(folded(data, (2, 0)), [[1, 4], [5, 3]])


@pytest.mark.parametrize(
    "centroids",
    [
        tessellation().centroids,
        np.array([[0.3, -0.4]]),
        np.column_stack([np.linspace(0.1, 1.9, 200), np.full(200, 0.2)]),  # on a line: cells from side to side
        np.random.default_rng(0).random((300, 2)) * 0.1 + 0.2,  # in a corner: cells across the box
    ],
    ids=["spread", "one", "line", "corner"],
)
def test_voronoi_cells_tile_the_box(centroids):
    corners, counts = voronoi(centroids, ((0.0, 2.0), (-1.0, 1.0)))
    areas = []
    for own, polygon in zip(centroids, np.split(corners, np.cumsum(counts)[:-1]), strict=True):
        distance = np.linalg.norm(polygon[:, None] - centroids, axis=-1)
        assert_allclose(np.linalg.norm(polygon - own, axis=-1), distance.min(1), rtol=1e-5)  # nobody is nearer
        x, y = polygon.T
        areas.append(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)
    assert_allclose(sum(areas), 4.0, rtol=1e-6)
    assert min(areas) > 0


# Curves.


def test_curves_are_written_as_named(tmp_path):
    curves(RUNS, tmp_path / "a.svg", y=["coverage"])
    assert "<svg" in (tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match=r"'a\.png'"):
        curves(RUNS, tmp_path / "a.jpg")


def test_seeds_golden():
    runs = [{"x": np.array([0.0, 1, 2]), "y": np.array([a, a + 1, a + 2.0])} for a in (0.0, 4.0, 8.0)]
    runs[2]["y"][1] = np.nan  # interpolated over
    at, quartiles = seeds(runs, "x", "y")
    assert_allclose(at, [0, 1, 2])
    assert_allclose(quartiles, [[2, 3, 4], [4, 5, 6], [6, 7, 8]])


def test_seeds_of_other_lengths_are_drawn_to_the_end_of_the_longest_golden():
    runs = [{"x": np.arange(n), "mean": np.arange(n) + a} for n, a in ((2, 0.0), (3, 4.0), (5, 8.0), (1, 0.0))]
    for statistic in ("median", "iqm"):
        pytest.importorskip("rliable")
        at, found = seeds(runs, "x", "mean", statistic)
        assert_allclose(at, range(5))
        assert_allclose(found[1], [2, 5, 8, 11, 12])
        assert_allclose(found[:, 3:], [[11, 12]] * 3)  # of one run
    assert counted(runs, "x", "fitness") == "1 to 4"
    assert counted(runs[2:3] * 3, "x", "mean") == "3"
    apart = [{"x": np.arange(2) + a, "mean": np.arange(2)} for a in (0.0, 7.0)]  # nowhere at once
    assert_allclose(seeds(apart, "x", "mean")[0], [0, 1, 7, 8])


def test_seeds_of_other_lengths_never_go_back_in_time():
    """A slow run that ends early counts on at its pace."""
    runs = [
        {"generation": np.arange(n), "seconds": p * np.arange(n), "y": np.ones(n)} for n, p in ((3, 10.0), (6, 1.0))
    ]
    at, found = seeds(runs, "seconds", "y")
    assert_allclose(at, 5.5 * np.arange(6))
    assert found.shape == (3, 6)


def test_a_run_of_one_generation_is_seen():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    curve([("run", {name: column[:1] for name, column in columns().items()})], ax)
    assert [line.get_marker() for line in ax.lines] == ["o", "o", "o"]
    curve([("run", columns())], ax, "coverage")
    assert ax.lines[-1].get_marker() == "None"


def test_seeds_that_took_other_times_meet_at_a_generation_golden():
    late = [{"generation": np.arange(3.0), "seconds": s + np.arange(3), "y": np.full(3, s)} for s in (1.0, 50, 200)]
    at, quartiles = seeds(late, "seconds", "y")
    assert_allclose(at, [50, 51, 52])
    assert_allclose(quartiles[1], [50, 50, 50])


def test_the_interquartile_mean_drops_the_outer_quarters_golden():
    pytest.importorskip("rliable")
    scores = np.array([0.0, 1, 2, 3, 4, 5, 6, 700])[:, None] * np.array([1.0, -2])
    low, middle, high = interval(scores)
    assert_allclose(middle, [3.5, -7.0])  # the mean of 2, 3, 4, 5
    assert (low < middle).all()
    assert (middle < high).all()
    assert_allclose(interval(scores), [low, middle, high])  # the same again


def test_a_table_compares_runs_golden():
    def run(score):
        return {"evaluations": np.array([10, 2000]), "mean": np.array([0.0, score]), "best": np.array([1, np.nan])}

    lines = table({"a|b": [run(1.0), run(2.0), run(4.0)], "c": [run(7.0)]}).splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[:4]]
    assert cells[0] == ["run", "seeds", "evaluations", "mean", "best"]
    assert cells[2] == [r"a\|b", "3", "2,000", "2 [1.5, 3]", "1 [1, 1]"]
    assert cells[3] == ["c", "1", "2,000", "7", "1"]


def test_a_table_says_where_seeds_ended_apart():
    runs = [
        {"evaluations": np.array([100, n]), "seconds": np.array([1, n]), "mean": np.zeros(2)} for n in (800, 10_000)
    ]
    text = table({"a": runs, "b": runs[:1]})
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[2:5]] == ["2", "800 to 10,000", "5,400"]
    assert "ended after different evaluations" in text
    assert "different" not in table({"b": runs[:1] * 2})


def test_a_missing_column_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'coverage'"):
        curves([("run", columns())], tmp_path / "a.png", y="covrage")
    with pytest.raises(ValueError, match="'generation'"):
        curves([("run", columns())], tmp_path / "a.png", x="generations")
