"""Numbers along axes, and bars of colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axis import Axis


def numbered(axis: Axis, low: float, high: float):
    """Write numbers as they are, large ones by their letter (20M): nothing that all have in common stands apart."""
    from matplotlib.ticker import EngFormatter, ScalarFormatter

    form: Any = EngFormatter(sep="") if max(abs(low), abs(high)) >= 1e5 else ScalarFormatter(useOffset=False)
    if max(abs(low), abs(high)) < 1e5:
        form.set_scientific(False)
    axis.set_major_formatter(form)


def color_bar(drawn: Any, axes: Any, values: np.ndarray, label: str = "fitness", **place: float) -> Any:
    """The bar of colours of what was drawn beside axes; where all `values` are equal, one colour and one number."""
    if not np.ptp(values):
        from matplotlib.colors import ListedColormap

        drawn.set_cmap(ListedColormap([drawn.get_cmap()(0.5)]))
    made = drawn.axes.figure.colorbar(drawn, ax=axes, label=label, **place)
    numbered(made.ax.yaxis, *drawn.get_clim())
    if not np.ptp(values):
        made.set_ticks([middle := np.mean(drawn.get_clim())])
        if abs(middle) < 1e5:
            made.set_ticklabels([f"{middle:.6g}"])
    return made
