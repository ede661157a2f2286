"""Pictures and pages of what was found. matplotlib and PIL are loaded by the function that draws with them."""

from evo.view.archive import ArchiveData, archive_map, histogram
from evo.view.compared import difference_map, parallel
from evo.view.episode import frames, gif, grid, mp4
from evo.view.gather import gathered
from evo.view.growth import growth
from evo.view.page import Exhibit, archive_page
from evo.view.scene import Film, Scene, Shape

__all__ = [
    "ArchiveData",
    "Exhibit",
    "Film",
    "Scene",
    "Shape",
    "archive_map",
    "archive_page",
    "difference_map",
    "frames",
    "gathered",
    "gif",
    "grid",
    "growth",
    "histogram",
    "mp4",
    "parallel",
]
