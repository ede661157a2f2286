"""What pages say beside their maps and curves: legends, scales and ticks."""

from __future__ import annotations

import numpy as np
import pytest
from browser import browsing, opened, until
from samples import archive, columns, tessellation, with_past

from evo.view import archive_page
from evo.view.curves import curves
from evo.view.page import Exhibit


@browsing
def test_visits_are_those_of_the_whole_run_and_of_cells_with_an_elite(chromium, tmp_path):
    data = with_past(archive())
    visits = np.where(np.isfinite(data.fitness), 20 + np.arange(120), 0)
    archive_page(Exhibit(data._replace(columns={"visits": visits}), generations=6), tmp_path / "a.html")
    with opened(chromium, tmp_path / "a.html") as page:
        page.locator("#color").select_option("visits")
        low, high = page.locator("#legend").inner_text().split()
        assert int(low) > 20 < int(high)  # no cell without an elite is drawn, nor counted
        assert "visits (whole run)" in page.locator("dt").all_inner_texts()
        assert page.locator("#color option[value=visits]").inner_text() == "visits (whole run)"
        page.locator("#when").fill("0")
        page.keyboard.press("b")
        assert "visits (whole run)" in page.locator("dt").all_inner_texts()


@browsing
def test_two_runs_differ_in_the_colours_of_the_picture(chromium, tmp_path):
    moved = archive()._replace(fitness=np.roll(archive().fitness, 11))
    archive_page([Exhibit(archive(), "one"), Exhibit(moved, "other")], tmp_path / "a.html")
    with opened(chromium, tmp_path / "a.html") as page:
        page.locator("#view").select_option("difference")
        said = page.locator("#legend").inner_text()
        assert all(words in said for words in ("other minus one", "only in one", "only in other"))
        own = [page.locator("#legend .swatch").nth(i).get_attribute("style") for i in (0, 1)]
        assert ["rgb(141, 148, 156)" in own[0], "rgb(166, 120, 200)" in own[1]] == [True, True]  # as in the picture


@browsing
def test_a_cell_is_found_by_its_grid_index(chromium, tmp_path):
    archive_page(archive(), tmp_path / "a.html")
    archive_page(tessellation(), tmp_path / "b.html")
    with opened(chromium, tmp_path / "a.html") as page:
        own, index = page.locator(".panel h2").inner_text(), page.locator("dt", has_text="grid index")
        index = index.locator("xpath=following-sibling::dd[1]").inner_text()
        asked = [("34", "Cell 34"), (f"grid index {index}", own), ("3, 4", "Cell 34"), ("index 3, 44", "Cell 34")]
        for text, wanted in asked:
            page.locator("#search").fill(text)
            page.locator("#search").press("Enter")
            assert page.locator(".panel h2").inner_text().startswith(wanted), text
        assert "below 12, 10" in page.locator("#found").inner_text()
        page.locator("#search").fill("1, 0")  # within the bounds: descriptors
        page.locator("#search").press("Enter")
        assert "nearest elite" in page.locator("#found").inner_text()
    with opened(chromium, tmp_path / "b.html") as page:
        page.locator("#search").fill("grid index 3, 4")
        page.locator("#search").press("Enter")
        assert "no grid" in page.locator("#found").inner_text()


@browsing
def test_elites_of_one_fitness_have_one_colour_and_one_number(chromium, tmp_path):
    flat = archive()._replace(fitness=np.where(np.isfinite(archive().fitness), 2.5, np.nan))
    first = int(np.flatnonzero(np.isfinite(flat.fitness))[0])  # that the page opens with
    archive_page(Exhibit(flat, scores={first: np.full(4, 2.5)}), tmp_path / "a.html")
    with opened(chromium, tmp_path / "a.html") as page:
        assert page.locator("#legend").inner_text() == "2.5"
        assert page.locator("#legend .ramp").count() == 0
        assert page.locator("svg.sketch text").all_text_contents() == ["2.500"]  # judged again, the same each time


SCALED = """() => [
  [["x", "y"], [[0, 1], [-1, 0]]], [["x", "y"], [[0, 200], [0, 210]]], [["x", "y"], [[0, 1], [0, 2]]],
  [["final x (m)", "final y (m)"], [[0, 1], [0, 2]]], [["x (m)", "v (m/s)"], [[0, 1], [0, 2]]],
  [["x (m)", "y (m)"], [[0, 1], [0, 20]]],
].map(([names, bounds]) => evo.aspect({ names, bounds }, [0, 1]))"""


@browsing
def test_a_map_is_to_scale_where_both_descriptors_are_alike(chromium, tmp_path):
    archive_page(archive((2, 2))._replace(fitness=np.ones(4)), tmp_path / "a.html")
    with opened(chromium, tmp_path / "a.html") as page:
        assert page.evaluate(SCALED) == [1, 200 / 210, None, 0.5, None, None]
        box = page.locator("#map").bounding_box()
        middle, low = box["x"] + box["width"] / 2, box["y"] + 0.75 * box["height"]
        page.mouse.move(middle - 0.2 * box["height"], low)
        page.locator(".tip").wait_for(state="visible")
        page.mouse.move(box["x"] + 80, low)  # beside the square
        page.locator(".tip").wait_for(state="hidden")


TEXTS = """() => {
  const own = CanvasRenderingContext2D.prototype, fill = own.fillText;
  window.texts = [];
  own.fillText = function (text, ...rest) { window.texts.push(text); return fill.call(this, text, ...rest); };
}"""


@browsing
@pytest.mark.parametrize("rows", [1, 8])
def test_ticks_along_few_generations_are_whole(rows, chromium, tmp_path):
    run = columns(rows=rows) | {"mean": 10.0 * np.arange(rows), "best": 10.0 * np.arange(rows) + 50}
    del run["eval_mean"]
    short = {name: column[:1] for name, column in run.items()}
    curves([("run", run)] * 2 + [("run", short)], tmp_path / "a.html", y="fitness")
    with opened(chromium, tmp_path / "a.html") as page:
        page.add_init_script(f"({TEXTS})()")
        page.reload()
        until(page, "window.texts.length > 3")
        ticks = page.evaluate("window.texts.map(Number)")
        assert set(range(rows)) <= set(ticks)
        assert all(tick == round(tick) for tick in ticks)
        assert ("of 2 to 3" if rows > 1 else "of 3") in page.locator("#said").inner_text()
