"use strict";
// The page of an archive: what is chosen, how it is coloured, what is said of it. The map is map.js, replays player.js.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent), get = (id) => document.getElementById(id);
  for (const name of ["fitness", "descriptor", "centroids", "corners", "counts"]) if (data[name]) data[name] = evo.array(data[name]);
  for (const column of data.columns) column.values = evo.array(column.values);
  data.cells = data.fitness.length;
  const d = data.names.length, past = data.history && evo.array(data.history.fitness);
  const columns = [{ name: "fitness", values: data.fitness }, ...data.columns];
  const map = evo.map(get("map"), data);
  let fitness = data.fitness, color = columns[0], chosen = -1, player = null, ticking = 0;

  get("title").textContent = data.title;
  get("summary").textContent = data.summary;
  get("meta").append(...data.meta.map(([key, value]) => evo.element("span", {}, evo.element("b", { textContent: key }), " " + value)));

  // Colours: viridis over the range of the elites, or a colour a kind; in steps, so that the map draws few paths.
  const restyle = () => {
    const style = getComputedStyle(document.documentElement), named = (name) => style.getPropertyValue("--" + name).trim();
    const colors = Object.fromEntries(["empty", "ink", "soft", "line", "mark", "card"].map((name) => [name, named(name)]));
    map.show({ colors });
  };
  const recolor = () => {
    let low = Infinity, high = -Infinity;
    data.fitness.forEach((f, c) => {
      const v = color.values[c];
      if (!Number.isNaN(f) && Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    });
    const span = high - low || 1, values = color === columns[0] ? () => fitness : () => color.values;
    const known = (c) => Number.isFinite(values()[c]);
    const paint = color.labels
      ? (c) => evo.kind(color.values[c])
      : (c) => known(c) ? evo.viridis(Math.round(((values()[c] - low) / span) * evo.levels) / evo.levels) : "#8a94a0";
    get("legend").replaceChildren(...(color.labels
      ? color.labels.slice(0, 12).map((label, i) => evo.element("span", { className: "kind" }, swatch(evo.kind(i)), label))
      : [evo.element("span", { textContent: evo.number(low) }), ramp(), evo.element("span", { textContent: evo.number(high) })]));
    map.show({ paint });
  };
  const swatch = (hue) => { const box = evo.element("i", { className: "swatch" }); box.style.background = hue; return box; };
  const ramp = () => {
    const box = evo.element("i", { className: "ramp" });
    box.style.background = `linear-gradient(to right, ${Array.from({ length: 11 }, (_, i) => evo.viridis(i / 10)).join(",")})`;
    return box;
  };

  // One cell: what is known of it, the commands, the replay.
  const facts = (cell) => {
    const rows = [["fitness", evo.number(fitness[cell])]];
    if (fitness !== data.fitness) rows.push(["fitness at the end", evo.number(data.fitness[cell])]);
    else data.names.forEach((name, k) => rows.push([name, evo.number(data.descriptor[cell * d + k])]));
    if (data.shape && d > 1) rows.push(["grid index", evo.index(data, cell).join(", ")]);
    for (const column of data.columns) rows.push([column.name, column.labels ? column.labels[column.values[cell]] : evo.number(column.values[cell])]);
    return rows;
  };
  const copy = async (text, button, code) => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  const command = (text) => {
    const code = evo.element("code", { textContent: text }), button = evo.element("button", { type: "button", textContent: "Copy" });
    button.onclick = () => copy(text, button, code);
    return evo.element("div", { className: "command" }, code, button);
  };
  const select = (cell) => {
    if (cell < 0 || cell >= data.cells) return;
    const changed = cell !== chosen;
    chosen = cell;
    const empty = Number.isNaN(fitness[cell]);
    get("cell").textContent = "Cell " + cell + (empty ? " (empty" + (fitness !== data.fitness ? " at this generation)" : ")") : "");
    get("facts").replaceChildren(...(empty ? [] : facts(cell)).flatMap(([key, value]) => [
      evo.element("dt", { textContent: key }), evo.element("dd", { textContent: value })]));
    get("commands").replaceChildren(...(empty ? [] : data.commands).map((text) => command(text.replaceAll("{cell}", cell))));
    if (changed) replay(cell);
    map.show({ chosen });
  };
  const replay = (cell) => {
    player?.destroy();
    player = null;
    const scene = data.scenes[cell], any = Object.keys(data.scenes).length;
    get("player").replaceChildren();
    if (scene) {
      get("replay").textContent = scene.title;
      player = evo.player(get("player"), scene);
    } else get("replay").textContent = any ? "This page holds no replay of this cell; it does of those with a white dot." : "";
  };

  // Ways to choose a cell.
  const elites = () => [...fitness.keys()].filter((c) => !Number.isNaN(fitness[c]));
  const extreme = (sign) => elites().reduce((best, c) => (best < 0 || sign * fitness[c] > sign * fitness[best] ? c : best), -1);
  const random = () => { const some = elites(); select(some[Math.floor(Math.random() * some.length)] ?? -1); };
  const next = () => { const cells = Object.keys(data.scenes).map(Number); select(cells.find((c) => c > chosen) ?? cells[0]); };
  const search = (text) => {
    const numbers = text.split(/[\s,;]+/).filter(Boolean).map(Number), say = (what) => { get("found").textContent = what; };
    if (!numbers.length || numbers.some(Number.isNaN)) return say(text.trim() ? "Give a cell number or descriptor values." : "");
    if (numbers.length === 1 && Number.isInteger(numbers[0]) && (d > 1 || numbers[0] > data.bounds[0][1])) {
      if (numbers[0] < 0 || numbers[0] >= data.cells) return say(`Cells are 0 to ${data.cells - 1}.`);
      select(numbers[0]);
      return say("Cell " + numbers[0]);
    }
    if (numbers.length !== d) return say(`Give a cell number, or ${d} descriptor value${d > 1 ? "s" : ""}.`);
    const far = (c) => numbers.reduce((sum, x, k) => sum + ((data.descriptor[c * d + k] - x) / (data.bounds[k][1] - data.bounds[k][0])) ** 2, 0);
    select(elites().reduce((best, c) => (best < 0 || far(c) < far(best) ? c : best), -1));
    say("The nearest elite: cell " + chosen);
  };
  get("best").onclick = () => select(extreme(1));
  get("worst").onclick = () => select(extreme(-1));
  get("random").onclick = random;
  get("next").onclick = next;
  get("next").hidden = !Object.keys(data.scenes).length;
  get("search").placeholder = d > 1 ? "cell, or " + data.names.map((_, k) => evo.number((data.bounds[k][0] + data.bounds[k][1]) / 2)).slice(0, 3).join(", ") : "cell or value";
  get("search").onchange = (e) => search(e.target.value);

  // The pointer on the map: hover tells, a click chooses, a drag pans, wheel and pinch zoom.
  const canvas = get("map"), tip = get("tip"), fingers = new Map();
  let moved = 0;
  const local = (e) => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  const hover = (x, y) => {
    const cell = map.at(x, y);
    map.show({ hovered: cell });
    tip.hidden = cell < 0;
    if (cell < 0) return;
    tip.replaceChildren(evo.element("b", { textContent: "cell " + cell }), ...facts(cell).flatMap(([key, value]) => [
      evo.element("br"), evo.element("span", { textContent: key + " " }), value]));
    const wide = canvas.clientWidth, left = x + 16 + tip.offsetWidth > wide ? x - 16 - tip.offsetWidth : x + 16;
    tip.style.left = Math.max(left, 2) + "px";
    tip.style.top = Math.max(Math.min(y + 12, canvas.clientHeight - tip.offsetHeight - 4), 2) + "px";
  };
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.onpointerdown = (e) => { fingers.set(e.pointerId, local(e)); moved = 0; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = (e) => {
    const at = local(e), last = fingers.get(e.pointerId);
    if (!last) return hover(...at);
    const wide = fingers.size === 2 ? spread() : 0;
    fingers.set(e.pointerId, at);
    moved += Math.hypot(at[0] - last[0], at[1] - last[1]);
    if (fingers.size === 1 && moved > 4) { tip.hidden = true; map.pan(at[0] - last[0], at[1] - last[1]); }
    else if (wide) map.zoom(spread() / Math.max(wide, 1), ...at);
  };
  canvas.onpointerup = (e) => {
    fingers.delete(e.pointerId);
    if (moved <= 4) select(map.at(...local(e)));
  };
  canvas.onpointercancel = (e) => fingers.delete(e.pointerId);
  canvas.onpointerleave = () => { tip.hidden = true; map.show({ hovered: -1 }); };
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); map.zoom(Math.exp(-0.0015 * e.deltaY), ...local(e)); }, { passive: false });
  canvas.ondblclick = () => map.whole();
  get("in").onclick = () => map.zoom(1.5);
  get("out").onclick = () => map.zoom(1 / 1.5);
  get("whole").onclick = () => map.whole();

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select, .stage")) return;
    const keys = {
      ArrowLeft: () => select(map.step(chosen, -1, 0)), ArrowRight: () => select(map.step(chosen, 1, 0)),
      ArrowUp: () => select(map.step(chosen, 0, 1)), ArrowDown: () => select(map.step(chosen, 0, -1)),
      b: () => select(extreme(1)), w: () => select(extreme(-1)), r: random, n: next, "/": () => get("search").focus(),
      "+": () => map.zoom(1.5), "-": () => map.zoom(1 / 1.5), 0: () => map.whole(),
    };
    if (e.key === " " && player && e.target.tagName !== "BUTTON") keys[" "] = () => player.toggle();
    if (!keys[e.key]) return;
    e.preventDefault();
    keys[e.key]();
  });

  // Which two descriptors are shown, and what is done with the others.
  const options = (names, at) => names.map((name, i) => evo.element("option", { value: i, textContent: name, selected: i === at }));
  const axes = () => {
    const shown = [+get("x").value, +get("y").value];
    const fixed = data.names.map((_, k) => { const held = document.getElementById("held" + k)?.value; return held ? +held : null; });
    map.show({ axes: shown, fixed });
    for (let k = 0; k < d; k++) { const box = document.getElementById("held" + k); if (box) box.parentNode.hidden = shown.includes(k); }
  };
  get("axes").hidden = d < 3;
  if (d > 1) {
    get("x").append(...options(data.names, 0));
    get("y").append(...options(data.names, 1));
    const swap = (one, other) => { if (get(one).value === get(other).value) get(other).value = [...Array(d).keys()].find((k) => k !== +get(one).value); axes(); };
    get("x").onchange = () => swap("x", "y");
    get("y").onchange = () => swap("y", "x");
  }
  if (data.shape && d > 2)
    data.names.forEach((name, k) => {
      const edge = (i) => evo.number(data.bounds[k][0] + (i / data.shape[k]) * (data.bounds[k][1] - data.bounds[k][0]));
      const slices = Array.from({ length: data.shape[k] }, (_, i) => evo.element("option", { value: i, textContent: edge(i) + " to " + edge(i + 1) }));
      const box = evo.element("select", { id: "held" + k, onchange: axes }, evo.element("option", { value: "", textContent: "best over all" }), ...slices);
      get("axes").append(evo.element("label", {}, name + " ", box));
    });

  // The generations of the run.
  const generation = (i) => {
    const all = data.history.generations.length;
    fitness = i >= all - 1 ? data.fitness : past.subarray(i * data.cells, (i + 1) * data.cells);
    get("when").value = i;
    get("generation").textContent = "generation " + data.history.generations[i];
    map.show({ fitness });
    select(chosen);
  };
  const run = (on) => {
    clearInterval(ticking);
    ticking = 0;
    get("run").textContent = on ? "❚❚" : "▶";
    const last = data.history.generations.length - 1;
    if (on) {
      if (+get("when").value >= last) generation(0);
      ticking = setInterval(() => { generation(+get("when").value + 1); if (+get("when").value >= last) run(false); }, Math.max(60, 4000 / last));
    }
  };
  if (data.history) {
    get("when").max = data.history.generations.length - 1;
    get("when").oninput = (e) => generation(+e.target.value);
    get("run").onclick = () => run(!ticking);
  } else get("time").hidden = true;

  get("color").append(...options(columns.map((column) => column.name), 0));
  get("color").onchange = (e) => { color = columns[+e.target.value]; recolor(); };
  get("coloring").hidden = columns.length < 2;
  new ResizeObserver(() => { tip.hidden = true; map.redraw(); }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  restyle();
  if (d > 1) axes();
  recolor();
  if (data.history) generation(data.history.generations.length - 1);
  const wanted = () => { const cell = /^#cell=(\d+)$/.exec(location.hash); return cell && +cell[1] < data.cells ? +cell[1] : extreme(1); };
  window.addEventListener("hashchange", () => select(wanted()));
  select(wanted());
})();
