"""Episodes: films of bodies and of pictures, and the camera's sums by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from samples import walker

from evo.view import episode, solids
from evo.view.camera import FOCAL, frame, look, project
from evo.view.scene import Film, Scene, Shape, checked, matrix, poses


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


def test_a_film_of_pictures_is_shown_whole(tmp_path):
    frames = np.zeros((5, 30, 60, 3), np.uint8)
    frames[:, :, :, 0] = np.array([50, 90, 130, 170, 210])[:, None, None]
    episode.gif(Film(frames, 0.1, np.ones(5), "wide"), tmp_path / "a.gif", 160, 120)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.size, film.n_frames) == ((160, 80), 5)  # as wide as the frame, and half as tall as it is wide
    image = pixels(tmp_path / "a.gif")
    red = (image[..., 0] - image[..., 1]) > 30
    assert red.sum() > 0.9 * 160 * 80
    episode.grid([Film(frames, 0.1), walker(steps=5)], tmp_path / "c.gif", 2, 160, 120)
    with Image.open(tmp_path / "c.gif") as film:
        assert film.size == (320, 120)
    with pytest.raises(ValueError, match="uint8"):
        episode.gif(Film(frames.astype(float), 0.1, np.ones(5)), tmp_path / "b.gif")
