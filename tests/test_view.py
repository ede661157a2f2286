"""Pictures and pages: sizes, contents, hostile strings, and the camera's sums by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
from browser import Browser
from numpy.testing import assert_allclose
from PIL import Image

from evo.view import episode, solids
from evo.view.archive import ArchiveData, archive_map, folded, histogram
from evo.view.camera import FOCAL, frame, look, project
from evo.view.curves import curves, seeds
from evo.view.page import archive_page
from evo.view.scene import Scene, Shape, checked, matrix, poses
from evo.view.voronoi import voronoi

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&<b>"


def walker(steps=60, dt=0.05, speed=2.0, title="walker"):
    """Two linked capsules that swing and travel along x, over a ground."""
    time = dt * np.arange(steps)
    swing = 0.6 * np.sin(4 * time)
    position = np.zeros((steps, 2, 3))
    position[:, :, 0] = (speed * time)[:, None] + np.stack([0 * time, 0.4 * np.sin(swing)], 1)
    position[:, :, 2] = [1.0, 0.5]
    half = np.stack([0 * swing, -swing / 2], 1)
    rotation = np.stack([np.cos(half), 0 * half, np.sin(half), 0 * half], -1)
    shapes = [Shape("plane", -1), *(Shape("capsule", b, size=(0.1, 0.3), color=c) for b, c in enumerate(COLORS))]
    return Scene(shapes, position, rotation, dt, np.ones(steps), title)


COLORS = ("#4477aa", "#ee6677")


def archive(shape=(12, 10), names=("left foot", "right foot")):
    """A hill over the box [0, 2] x [-1, 1] ..., its outer cells empty."""
    index = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"), -1).reshape(-1, len(shape))
    fitness = 3 - ((index - 0.4) ** 2).sum(-1)
    fitness[((index - 0.5) ** 2).sum(-1) > 0.2] = -np.inf
    bounds = ((0.0, 2.0), (-1.0, 1.0), (0.0, 1.0), (0.0, 1.0))[: len(shape)]
    low, high = np.array(bounds).T
    return ArchiveData(fitness, low + index * (high - low), shape, bounds, names[: len(shape)])


def tessellation(cells=300, d=2):
    centroids = np.random.default_rng(0).uniform([0, -1, 0][:d], [2, 1, 1][:d], (cells, d))
    fitness = np.where(centroids[:, 0] < 0.3, np.nan, centroids.sum(-1))
    return ArchiveData(fitness, centroids, None, ((0.0, 2.0), (-1.0, 1.0), (0.0, 1.0))[:d], (), centroids)


def columns(seed=0, rows=40):
    generation = np.arange(rows)
    mean = 10.0 * generation + np.random.default_rng(seed).normal(0, 5, rows)
    score = np.where(generation % 10 == 0, mean + 20, np.nan)
    run = {"generation": generation, "steps": 1000.0 * generation, "mean": mean, "best": mean + 50, "std": mean * 0 + 9}
    return run | {"eval_mean": score, "coverage": generation / rows, "qd_score": 100.0 * generation}


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)


# The camera and the rays, by hand.


def test_projection_golden():
    camera = look(np.array([1.0, 2.0, 3.0]), -90, 0, 10)  # stands at y = -8 and looks along +y
    assert_allclose(camera.eye, [1, -8, 3], atol=1e-12)
    xy, depth = project(camera, np.array([[1.0, 2, 3], [2, 2, 3], [1, 2, 4], [1, 12, 4], [1, -9, 3]]), 400, 300)
    unit = FOCAL * 150 / 10
    assert_allclose(xy[:4], [[200, 150], [200 + unit, 150], [200, 150 - unit], [200, 150 - unit / 2]])
    assert_allclose(depth, [10, 10, 10, 20, -1])
    assert np.isnan(xy[4]).all()  # behind the eye


def test_a_map_camera_has_x_to_the_right_and_y_up():
    xy, _ = project(look(np.zeros(3), -90, 90, 5), np.array([[1.0, 0, 0], [0, 1, 0]]), 200, 200)
    assert xy[0, 0] > 100
    assert abs(xy[0, 1] - 100) < 1e-9
    assert xy[1, 1] < 100
    assert abs(xy[1, 0] - 100) < 1e-9


def test_rotation_golden():
    quarter = matrix(np.array([1.0, 0, 0, 1]))  # a quarter turn about z: x becomes y
    assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert_allclose(quarter @ [0, 1, 0], [-1, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "size", "aim", "wanted"),
    [
        ("sphere", (1.0,), (0, 0, 0), 4.0),
        ("capsule", (0.5, 2.0), (0, 0, 1.9), 4.5),  # the side
        ("capsule", (0.5, 2.0), (0, 0, 2.3), 5 - 0.4),  # the round end: sqrt(0.5^2 - 0.3^2) = 0.4
        ("cylinder", (0.5, 2.0), (0, 0, 1.9), 4.5),
        ("cylinder", (0.5, 2.0), (0, 0, 2.3), np.inf),
        ("box", (0.5, 1.0, 2.0), (0, 0.9, -1.9), 4.5),
        ("box", (0.5, 1.0, 2.0), (0, 1.1, 0), np.inf),
    ],
)
def test_a_ray_along_x_meets_the_solid(kind, size, aim, wanted):
    start = np.array([-5.0, aim[1], aim[2]])
    ahead = solids.hit(kind, size, start, np.array([[1.0], [0], [0]]))
    assert_allclose(ahead, [wanted])
    assert_allclose(solids.hit(kind, size, start, np.array([[-1.0], [0], [0]])), [np.inf])  # behind
    if np.isfinite(wanted):
        n = solids.normal(kind, size, (start + wanted * np.array([1.0, 0, 0]))[:, None])
        assert_allclose(np.linalg.norm(n, axis=0), 1)
        assert n[0, 0] < 0


def test_the_camera_follows_a_traveller_and_keeps_still_for_a_dancer():
    run, stay = checked(walker(steps=200)), checked(walker(speed=0.0))
    assert np.ptp(frame(run, poses(run)).target[:, 0]) > 10
    assert np.ptp(frame(stay, poses(stay)).target, 0).max() == 0
    assert np.ptp(frame(run, poses(run), follow=False).target, 0).max() == 0


def test_a_scene_that_blows_up_is_cut_there():
    scene = walker()
    scene.position[40, 1] = np.nan
    assert len(checked(scene).position) == 40
    scene.position[0] = np.inf
    with pytest.raises(ValueError, match="no step to draw"):
        checked(scene)


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match="'capsule'"):
        checked(walker()._replace(shapes=[Shape("capsul", 0, size=(1.0, 1.0))]))
    with pytest.raises(ValueError, match="from -1"):
        checked(walker()._replace(shapes=[Shape("sphere", 7, size=(1.0,))]))


# Films.


def test_gif_shows_the_bodies_where_they_are(tmp_path):
    episode.gif(walker(steps=20), tmp_path / "a.gif", 160, 120, fps=10)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.size, film.n_frames, film.info["duration"]) == ((160, 120), 11, 100)
    image = pixels(tmp_path / "a.gif")
    blue, red = image[..., 2] - image[..., 0] > 60, image[..., 0] - image[..., 2] > 60
    assert 100 < blue.sum() < 4000
    assert 100 < red.sum() < 4000
    assert np.argwhere(blue)[:, 0].mean() < np.argwhere(red)[:, 0].mean()  # the blue one is above


def test_grid_holds_every_episode(tmp_path):
    scenes = [walker(steps=4), walker(steps=8), walker(steps=6)]
    episode.grid(scenes, tmp_path / "a.gif", width=80, height=60)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.size, film.n_frames) == ((160, 120), 8)
    for box in ((0, 0), (80, 0), (0, 60)):
        assert np.ptp(pixels(tmp_path / "a.gif")[box[1] : box[1] + 60, box[0] : box[0] + 80, 0]) > 60


def test_every_kind_is_drawn(tmp_path):
    shapes = [("sphere", (0.4,)), ("capsule", (0.2, 0.4)), ("box", (0.3, 0.3, 0.3)), ("cylinder", (0.3, 0.3))]
    for kind, size in shapes:
        scene = Scene(
            [Shape("plane", -1), Shape(kind, 0, (0, 0, 1), size=size, color="#dd2222")],
            np.zeros((1, 1, 3)),
            np.tile([1.0, 0, 0, 0], (1, 1, 1)),
            1.0,
            np.zeros(1),
        )
        image = np.asarray(next(episode.frames(scene, 120, 90)), float)
        assert (image[..., 0] - image[..., 1] > 60).sum() > 200, kind


def test_a_wrong_name_or_a_missing_ffmpeg_is_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'film\.gif'"):
        episode.gif(walker(), tmp_path / "film.png")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="pip install imageio-ffmpeg"):
        episode.mp4(walker(), tmp_path / "film.mp4")


# Curves.


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_of_several_seeds(tmp_path, suffix):
    runs = [("EGGROLL", columns(i)) for i in range(3)] + [("$ES_1", columns(9))]
    curves(runs, tmp_path / f"a.{suffix}", x="steps")
    if suffix == "png":
        image = pixels(tmp_path / "a.png")
        assert image.shape[1] > 1200
        assert image.std() > 15
    else:
        assert "<svg" in (tmp_path / "a.svg").read_text()


def test_seeds_golden():
    runs = [{"x": np.array([0.0, 1, 2]), "y": np.array([a, a + 1, a + 2.0])} for a in (0.0, 4.0, 8.0)]
    runs[2]["y"][1] = np.nan  # interpolated over
    at, quartiles = seeds(runs, "x", "y")
    assert_allclose(at, [0, 1, 2])
    assert_allclose(quartiles, [[2, 3, 4], [4, 5, 6], [6, 7, 8]])


def test_a_missing_column_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'coverage'"):
        curves([("run", columns())], tmp_path / "a.png", y="covrage")
    with pytest.raises(ValueError, match="'generation'"):
        curves([("run", columns())], tmp_path / "a.png", x="generations")


# Maps.


@pytest.mark.parametrize(
    "data", [archive(), archive((12,)), archive((4, 5, 3), ()), tessellation(), tessellation(200, 3)]
)
def test_maps_are_drawn_in_viridis(tmp_path, data):
    archive_map(data, tmp_path / "a.png")
    image = pixels(tmp_path / "a.png")
    yellow = (np.abs(image - [253, 231, 36]) < 40).all(-1)
    purple = (np.abs(image - [68, 1, 84]) < 40).all(-1)
    assert min(image.shape[:2]) > 400
    assert yellow.sum() > 50
    assert purple.sum() > 50


def test_a_map_takes_an_axes_and_names_its_descriptors():
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    archive_map(archive(), ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("left foot", "right foot")
    assert "coverage" in ax.get_title()
    assert ax.get_xlim() == (0, 2)
    assert ax.get_ylim() == (-1, 1)


def test_histogram(tmp_path):
    histogram(archive(), tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").std() > 15


def test_folding_is_the_best_over_the_other_axes_golden():
    fitness = np.array([1.0, 5, -np.inf, 2, 0, 3, 4, -np.inf])  # [x][y][z]
    data = ArchiveData(fitness, np.zeros((8, 3)), (2, 2, 2), ((0.0, 1.0),) * 3)
    assert_allclose(folded(data, (0, 1)), [[5, 2], [3, 4]])
    assert_allclose(folded(data, (2, 0)), [[1, 4], [5, 3]])


def test_voronoi_cells_tile_the_box():
    data = tessellation()
    corners, counts = voronoi(data.centroids, data.bounds)
    areas = []
    for polygon in np.split(corners, np.cumsum(counts)[:-1]):
        x, y = polygon.T
        areas.append(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)
    assert_allclose(sum(areas), 4.0, rtol=1e-6)
    assert min(areas) > 0


@pytest.mark.parametrize("draw", [archive_map, histogram, archive_page])
def test_an_empty_archive_raises(tmp_path, draw):
    data = archive()._replace(fitness=np.full(120, -np.inf))
    with pytest.raises(ValueError, match="archive is empty"):
        draw(data, tmp_path / ("a.html" if draw is archive_page else "a.png"))


# Pages.


def hostile_page(path):
    data = archive(names=(HOSTILE, "right"))
    data = data._replace(columns={HOSTILE: np.arange(120), "emitter": np.array([HOSTILE, "iso"])[np.arange(120) % 2]})
    best, history = int(data.fitness.argmax()), [(0, np.full(120, -np.inf)), (5, data.fitness)]
    meta = {"title": HOSTILE, "run": "runs/" + HOSTILE, HOSTILE: HOSTILE}
    archive_page(data, path, history, meta, {best: walker(title=HOSTILE)})
    return best


def test_hostile_strings_stay_strings_and_nothing_is_fetched(tmp_path):
    episode.page(walker(title=HOSTILE), tmp_path / "episode.html")
    hostile_page(tmp_path / "archive.html")
    for name in ("episode.html", "archive.html"):
        text = (tmp_path / name).read_text()
        assert "'owned'</script>" not in text
        assert "<img" not in text
        assert not re.search(r"https?://|//cdn|<link|src=", re.sub(r"&[a-z#0-9]+;", "", text).replace("src=x", ""))
        data = re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.S)
        assert json.loads(data[1])["title"] == HOSTILE
        assert len(re.findall(r"</script>", text)) == len(re.findall(r"<script", text))


def test_a_page_of_10_000_cells_is_small(tmp_path):
    archive_page(tessellation(10_000), tmp_path / "a.html")
    assert 200_000 < os.path.getsize(tmp_path / "a.html") < 2_000_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_the_page_in_a_browser(tmp_path):
    best = hostile_page(tmp_path / "a.html")
    browser = Browser(tmp_path / "a.html", tmp_path / "profile")
    try:
        heading = "document.getElementById('cell').textContent"
        picture = "document.getElementById('map').toDataURL()"
        browser.wait(f"{heading} === 'Cell {best}'")
        browser.wait("+document.querySelector('.stage').dataset.time > 0.2")  # it plays
        browser.key("ArrowRight")
        browser.wait(f"{heading} === 'Cell {best + 10}'")  # the next along x: 10 cells on
        middle = "(b => [b.left + b.width * 0.3, b.top + b.height / 2])(map.getBoundingClientRect())"
        browser.click(*browser.run(middle))
        browser.wait(f"{heading} !== 'Cell {best + 10}'")
        before = browser.run(picture)
        browser.run("(e => { e.value = 0; e.dispatchEvent(new Event('input')); })(document.getElementById('when'))")
        browser.wait(f"{picture} !== {before!r}")
        assert browser.run("document.title") == browser.run("document.getElementById('title').textContent") == HOSTILE
        assert browser.run("document.querySelectorAll('#meta img, #facts img, h1 b').length") == 0
        assert browser.trouble() == []
    finally:
        browser.close()
