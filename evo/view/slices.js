"use strict";
// Which two descriptors a map shows, and what is done with the others: evo.slices(run, changed) -> {bars, shown(),
// follow(cell)}. Of each other descriptor either the best over all of it, or a slice, whose width and place one chooses.
(() => {
  const FINE = 100; // places of a slice where there is no grid
  const label = (name, ...rest) => evo.element("label", { className: "named", title: name }, evo.element("span", { textContent: name }), " ", ...rest);

  evo.slices = (run, changed) => {
    const d = run.names.length, [axes, others] = ["axes", "slices"].map((id) => evo.element("div", { id, className: "bar" }));
    const parts = (k) => (run.shape ? run.shape[k] : FINE);
    const choice = (id, at) => evo.element("select", { id }, ...run.names.map((name, i) => evo.element("option", { value: i, textContent: name, selected: i === at })));
    const x = choice("x", 0), y = choice("y", 1), each = evo.element("select", { id: "each" }, ...[["best", "best of each place"], ["every", "every elite"]].map(([value, textContent]) => evo.element("option", { value, textContent })));
    const held = run.names.map((name, k) => {
      const n = parts(k), sizes = run.shape ? [1, 2, 3, 4, 6, 8, 12, 16].filter((w) => w < n).map((w) => [w, w === 1 ? "1 cell" : w + " cells"])
        : [[50, "half"], [25, "a quarter"], [10, "a tenth"], [5, "a twentieth"]];
      const wide = evo.element("select", { id: "wide" + k, ariaLabel: "Width of the slice of " + name }, evo.element("option", { value: "", textContent: "best over all" }), ...sizes.map(([value, textContent]) => evo.element("option", { value, textContent })));
      const place = evo.element("input", { id: "place" + k, type: "range", min: 0, max: n - 1, step: 1, value: 0, ariaLabel: "Place of the slice of " + name });
      const said = evo.element("output", {}), box = evo.element("div", { className: "slice" }, label(name, wide), place, said);
      const one = { wide, place, said, box, n };
      wide.onchange = () => { // a new width stays where the old one was
        const middle = +place.value + (one.width || n) / 2;
        one.width = +wide.value;
        place.max = n - one.width;
        place.value = Math.round(middle - one.width / 2);
        changed();
      };
      place.oninput = changed;
      return one;
    });
    axes.append(evo.element("label", {}, "x ", x), evo.element("label", {}, "y ", y), ...(run.shape || d < 3 ? [] : [evo.element("label", {}, "show ", each)]));
    others.append(...held.map((one) => one.box));
    const apart = (one, other) => () => { if (one.value === other.value) other.value = [...Array(d).keys()].find((k) => k !== +one.value); changed(); };
    x.onchange = apart(x, y);
    y.onchange = apart(y, x);
    each.onchange = changed;
    const between = (one) => (+one.wide.value ? [+one.place.value / one.n, (+one.place.value + +one.wide.value) / one.n] : null);
    return {
      bars: [axes, others],
      shown() { // for `evo.map`
        if (d < 2) return {};
        const two = [+x.value, +y.value], fixed = held.map((one, k) => (two.includes(k) ? null : between(one)));
        held.forEach((one, k) => {
          one.box.hidden = two.includes(k);
          one.place.hidden = one.said.hidden = !fixed[k];
          const [low, high] = run.bounds[k], at = (share) => evo.number(low + share * (high - low));
          one.said.textContent = fixed[k] ? `${at(fixed[k][0])} to ${at(fixed[k][1])}` : "";
        });
        return { axes: two, fixed, every: each.value === "every" };
      },
      follow(cell) { // slices move to where a cell is
        let moved = false;
        held.forEach((one, k) => {
          const slice = between(one), at = evo.middle(run, cell, k);
          if (!slice || [+x.value, +y.value].includes(k) || evo.within(at, slice)) return;
          one.place.value = Math.round(at * one.n - +one.wide.value / 2);
          if (run.shape) one.place.value = Math.min(Math.floor(at * one.n), one.n - +one.wide.value);
          moved = true;
        });
        if (moved) changed();
      },
    };
  };
})();
