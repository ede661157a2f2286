"use strict";
// The page of one archive, or of two side by side: what is chosen, how maps are coloured, what the keys do. Who lived
// where is story.js, the maps are map.js, the panels of elites cell.js.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent), get = (id) => document.getElementById(id);
  for (const run of data.runs) for (const name of ["centroids", "corners", "counts"]) if (run[name]) run[name] = evo.array(run[name]);
  const stories = data.runs.map(evo.story), runs = data.runs, first = runs[0], d = first.names.length, two = runs.length > 1;
  runs.forEach((run, i) => { // dots where they tell something: most cells have none
    const held = Object.keys(run.episodes).length;
    run.dotted = held <= 200 && 2 * held < stories[i].fitness.filter((f) => !Number.isNaN(f)).length;
  });
  const view = { x: 0, y: 0, zoom: 1 }, fields = [];
  const SAID = { generation: "age (generation)", corrected: "corrected fitness", visits: evo.visits };
  let color = "fitness", mode = "each", active = 0, chosen = -1, root = -1, time = 0, ticking = 0, pinned = null, chart = null;

  // The header.
  const told = () => {
    get("title").textContent = data.title;
    get("summary").textContent = two ? "" : first.summary;
    const about = (run) => [...(two ? [[run.title, run.summary]] : []), ...run.meta];
    const left = data.leftOut ? [["left out", `${data.leftOut} replays, to stay under 15 MB`]] : [];
    get("meta").replaceChildren(...[...runs.flatMap(about), ["this file", data.size], ...left].map(([key, value]) =>
      evo.element("span", {}, evo.element("b", { textContent: key }), " " + value)));
  };

  // Colours: viridis over the range of all elites, or a colour a kind; in steps, so that a map draws few paths.
  const column = (story) => story.columns().find((c) => c.name === color) || story.columns()[0];
  const spanned = (of) => {
    let low = Infinity, high = -Infinity;
    stories.forEach((story, i) => { for (let c = 0; c < first.cells; c++) { const v = of(story, c, i); if (v < low) low = v; if (v > high) high = v; } });
    return low > high ? [NaN, NaN] : [low, high];
  };
  const always = (story, c) => (story.end[c] < 0 ? NaN : story.elite(story.end[c]).fitness);
  let range = spanned(always);
  const swatch = (hue) => { const box = evo.element("i", { className: "swatch" }); box.style.background = hue; return box; };
  const ramp = (at) => {
    const box = evo.element("i", { className: "ramp" });
    box.style.background = `linear-gradient(to right, ${Array.from({ length: 11 }, (_, i) => at(i / 10)).join(",")})`;
    return box;
  };
  const ends = (low, high, at) => { // a range of colours; of one value, its colour
    const said = (v) => evo.element("span", { textContent: evo.short(v) });
    return low < high ? [said(low), ramp(at), said(high)] : [...(Number.isNaN(low) ? [] : [swatch(at(0.5))]), said(low)];
  };
  const gap = (c) => stories[1].fitness[c] - stories[0].fitness[c];
  const recolor = () => {
    const columns = stories.map(column), kinds = columns[0].labels;
    const [low, high] = color === "fitness" ? range : spanned((_, c, i) => columns[i].of(c)), span = high - low;
    const step = (v) => (span ? Math.round(((v - low) / span) * evo.levels) / evo.levels : 0.5);
    let most = 0;
    if (two) for (let c = 0; c < first.cells; c++) { const g = Math.abs(gap(c)); if (g > most) most = g; }
    for (const field of fields) {
      const { of, labels } = columns[field.story] || {};
      const paint = field.story === undefined
        ? (c) => (Number.isNaN(gap(c)) ? evo.alone[Number.isNaN(stories[0].fitness[c]) ? 1 : 0] : evo.diverging(Math.round((gap(c) / (most || 1)) * 48) / 48))
        : labels ? (c) => (Number.isNaN(of(c)) ? evo.themed("unknown") : evo.kind(of(c))) : (c) => (Number.isFinite(of(c)) ? evo.viridis(step(of(c))) : evo.themed("unknown"));
      field.map.show({ paint, range });
    }
    const difference = [evo.element("span", { textContent: `${runs[1]?.title} minus ${first.title}` }), ...ends(-most, most, (x) => evo.diverging(2 * x - 1)),
      ...runs.map((run, i) => evo.element("span", {}, swatch(evo.alone[i]), `only in ${run.title}`))];
    get("legend").replaceChildren(...(mode === "difference" ? difference
      : kinds ? kinds.slice(0, 12).map((label, i) => evo.element("span", {}, swatch(evo.kind(i)), label)) : ends(low, high, evo.viridis)));
  };
  const restyle = () => {
    const colors = Object.fromEntries(["empty", "ink", "soft", "line", "mark", "card"].map((name) => [name, evo.themed(name)]));
    for (const field of fields) field.map.show({ colors });
    recolor();
    curve();
  };

  const offered = () => { // what there is to colour by: on a live page it may come later
    const names = stories[0].columns().map((c) => c.name), there = [...get("color").options].map((o) => o.value);
    get("coloring").hidden = names.length < 2 || mode === "difference";
    if (names.join("\n") === there.join("\n")) return;
    if (!names.includes(color)) color = "fitness";
    get("color").replaceChildren(...names.map((name) => evo.element("option", { value: name, textContent: SAID[name] || name, selected: name === color })));
  };

  // The maps.
  const lay = () => {
    offered();
    const wanted = mode === "difference" ? [undefined] : mode === "each" ? runs.map((_, i) => i) : [+mode];
    fields.length = 0;
    get("fields").replaceChildren(...wanted.map((story) => {
      const canvas = evo.element("canvas", { className: "map", tabIndex: 0, role: "img", ariaLabel: "Cells of the archive; arrow keys move to the next elite" });
      const tip = evo.element("div", { className: "tip", hidden: true }), field = { story, canvas, tip };
      field.map = evo.map(canvas, first, view, () => fields.forEach((f) => f.map.redraw()));
      const own = story ?? 0;
      evo.pointer(canvas, field.map, { hover: (cell, x, y) => hover(field, cell, x, y), choose: (cell) => { if (cell >= 0) pick(cell, story ?? (Number.isNaN(stories[0].fitness[cell]) ? 1 : 0)); } });
      new ResizeObserver(() => { tip.hidden = true; field.map.redraw(); }).observe(canvas);
      field.map.show({ dots: (c) => runs[own].dotted && !!runs[own].episodes[c] && stories[own].tenant(c) === stories[own].end[c] });
      fields.push(field);
      const title = story === undefined ? `${runs[1].title} minus ${first.title}` : runs[story].title;
      return evo.element("div", { className: "field" }, ...(two ? [evo.element("h3", { textContent: title })] : []), evo.element("div", { className: "sheet" }, canvas, tip));
    }));
    get("fields").firstElementChild.querySelector("canvas").id = "map";
    axes();
    restyle();
    refill();
    mark();
  };
  const refill = () => {
    for (const field of fields) {
      const both = () => stories[0].fitness.map((f, c) => (Number.isNaN(f) ? stories[1].fitness[c] : Math.max(f, Number.isNaN(stories[1].fitness[c]) ? f : stories[1].fitness[c])));
      field.map.show({ fitness: field.story === undefined ? both() : stories[field.story].fitness });
    }
  };
  const mark = () => {
    for (const field of fields) {
      const own = field.story === undefined || field.story === active, e = chosen >= 0 ? stories[active].elite(chosen) : null;
      const panel = panels[two ? active : panels.length - 1];
      const kept = pinned === null ? -1 : stories[0].elite(pinned[0]).cell;
      field.map.show({ chosen: e ? e.cell : empty, kept, path: own && panel ? panel.line : [] });
    }
  };
  const hover = (field, cell, x, y) => {
    field.map.show({ hovered: cell });
    field.tip.hidden = cell < 0;
    if (cell < 0) return;
    const facts = field.story === undefined
      ? [...runs.map((run, i) => [run.title, evo.number(stories[i].fitness[cell])]), ["difference", evo.number(gap(cell))]] : summary(stories[field.story], cell);
    field.tip.replaceChildren(evo.element("b", { textContent: "cell " + cell }), ...facts.flatMap(([key, value]) => [
      evo.element("br"), evo.element("span", { textContent: key + " " }), value]));
    const wide = field.canvas.clientWidth, left = x + 16 + field.tip.offsetWidth > wide ? x - 16 - field.tip.offsetWidth : x + 16;
    field.tip.style.left = Math.max(left, 2) + "px";
    field.tip.style.top = Math.max(Math.min(y + 12, field.canvas.clientHeight - field.tip.offsetHeight - 4), 2) + "px";
  };
  const summary = (story, cell) => {
    const e = story.elite(story.tenant(cell)), said = [["fitness", evo.number(e.fitness)]];
    first.names.forEach((name, k) => said.push([name, evo.number(e.descriptor[k])]));
    if (story.known) said.push(["generation", e.generation]);
    const from = e.parents.filter((r) => r >= 0).map((r) => story.elite(r).cell);
    if (from.length) said.push(["parents", from.join(", ")]);
    return [...said, ...story.says(e.row)];
  };

  // Panels: one; with another elite kept beside it, two; of two runs, one each.
  let panels = [], empty = -1;
  const fetched = (i) => data.live && (async (e) => {
    const whom = stories[i].final(e.row) ? `cell=${e.cell}` : `generation=${e.generation}&member=${e.member}`;
    const answer = await fetch(`episode?run=${i}&${whom}`);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  });
  const compose = () => {
    panels.forEach((panel) => panel.destroy());
    const wanted = two ? [0, 1] : pinned === null ? [0] : [0, 0];
    document.querySelector("main").classList.toggle("two", wanted.length > 1);
    const hosts = wanted.map(() => evo.element("div", { className: "panel" }));
    get("panels").replaceChildren(...hosts);
    panels = hosts.map((host, k) => evo.panel(host, stories[wanted[k]], {
      choose: (row) => choose(row, wanted[k], true), fetch: fetched(wanted[k]), pin: two || k ? null : pin, title: two ? runs[k].title : "",
    }));
    if (pinned !== null) { panels[0].show(...pinned); panels[0].pinned(true); }
    show();
  };
  const pin = () => {
    if (two || (pinned === null && chosen < 0)) return;
    pinned = pinned === null ? [chosen, root < 0 ? chosen : root] : null;
    compose();
  };
  const show = () => {
    if (two) {
      const cell = chosen >= 0 ? stories[active].elite(chosen).cell : empty;
      stories.forEach((story, i) => {
        const row = i === active && chosen >= 0 ? chosen : story.tenant(cell);
        row >= 0 ? panels[i].show(row, i === active && root >= 0 ? root : row) : panels[i].empty(cell);
      });
    } else if (chosen >= 0) panels[panels.length - 1].show(chosen, root < 0 ? chosen : root);
    else panels[panels.length - 1].empty(empty);
    mark();
  };
  const choose = (row, story = active, ancestor = false) => { // an arrival; of an ancestor, the line stays its descendant's
    if (row < 0) return;
    if (!ancestor) root = row;
    [active, chosen, empty] = [story, row, -1];
    const { cell } = stories[story].elite(row);
    if (d > 2) slices.follow(cell);
    show();
    if (!ancestor && location.protocol === "file:") history.replaceState(null, "", "#cell=" + cell);
  };
  const pick = (cell, story = active) => {
    if (cell < 0 || cell >= first.cells) return;
    const row = stories[story].tenant(cell);
    if (row >= 0) return choose(row, story);
    [active, chosen, root, empty] = [story, -1, -1, cell];
    show();
  };
  const here = () => (chosen >= 0 ? stories[active].elite(chosen).cell : empty);

  // Ways to choose a cell.
  const elites = () => { const found = []; stories[active].fitness.forEach((f, c) => { if (!Number.isNaN(f)) found.push(c); }); return found; };
  const extreme = (sign) => elites().reduce((best, c) => (best < 0 || sign * stories[active].fitness[c] > sign * stories[active].fitness[best] ? c : best), -1);
  const random = () => { const some = elites(); pick(some[Math.floor(Math.random() * some.length)] ?? -1); };
  const next = () => { const cells = Object.keys(runs[active].episodes).map(Number), at = here(); pick(cells.find((c) => c > at) ?? cells[0] ?? -1); };
  const search = (text) => {
    const asked = text.replace(/^\s*(grid\s*)?index\b:?/i, ""), named = asked !== text, { shape, bounds } = first;
    const numbers = asked.split(/[\s,;]+/).filter(Boolean).map(Number), say = (what) => { get("found").textContent = what; };
    if (!numbers.length || numbers.some(Number.isNaN)) return say(text.trim() ? "Give a cell number or descriptor values." : "");
    if (!named && numbers.length === 1 && Number.isInteger(numbers[0]) && (d > 1 || numbers[0] > first.bounds[0][1])) {
      if (numbers[0] < 0 || numbers[0] >= first.cells) return say(`Cells are 0 to ${first.cells - 1}.`);
      pick(numbers[0]);
      return say("Cell " + numbers[0]);
    }
    const fits = shape && numbers.length === d && numbers.every((n, k) => Number.isInteger(n) && n >= 0 && n < shape[k]);
    if (named && !fits) return say(shape ? `A grid index is ${d} whole numbers below ${shape.join(", ")}.` : "This archive is no grid.");
    if (fits && (named || numbers.some((n, k) => n < bounds[k][0] || n > bounds[k][1]))) { // no descriptor: the index that a panel shows
      const cell = numbers.reduce((at, n, k) => at * shape[k] + n, 0);
      pick(cell);
      return say(`Cell ${cell}, grid index ${numbers.join(", ")}`);
    }
    if (numbers.length !== d) return say(`Give a cell number, or ${d} descriptor value${d > 1 ? "s" : ""}.`);
    const story = stories[active], place = (c) => story.elite(story.tenant(c)).descriptor;
    const far = (c) => place(c).reduce((sum, x, k) => sum + ((x - numbers[k]) / (first.bounds[k][1] - first.bounds[k][0])) ** 2, 0);
    pick(elites().map((c) => [far(c), c]).reduce((best, one) => (one[0] < best[0] ? one : best), [Infinity, -1])[1]);
    say("The nearest elite: cell " + here());
  };
  get("best").onclick = () => pick(extreme(1));
  get("worst").onclick = () => pick(extreme(-1));
  get("random").onclick = random;
  get("next").onclick = next;
  get("next").hidden = !runs.some((run) => Object.keys(run.episodes).length);
  get("search").placeholder = d > 1 ? "cell or " + (["x, y", "x, y, z"][d - 2] || "x, y, …") : "cell or value";
  get("search").title = `A cell's number, ${first.shape && d > 1 ? "its grid index, " : ""}or ` + first.names.join(", ");
  get("search").onchange = (e) => search(e.target.value);
  get("in").onclick = () => fields[0].map.zoom(1.5);
  get("out").onclick = () => fields[0].map.zoom(1 / 1.5);
  get("whole").onclick = () => fields[0].map.whole();

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input:not([type=range]), select, .stage")) return;
    const slid = e.target.matches("input[type=range]"), map = (fields.find((f) => f.story === active) || fields[0]).map;
    const panel = panels[two ? active : panels.length - 1];
    const keys = {
      b: () => pick(extreme(1)), w: () => pick(extreme(-1)), r: random, n: next, c: pin, "/": () => get("search").focus(),
      "+": () => map.zoom(1.5), "-": () => map.zoom(1 / 1.5), 0: () => map.whole(), ",": () => travel(time - 1), ".": () => travel(time + 1),
      "[": () => panel.step(-1), "]": () => panel.step(1), p: () => run(!ticking),
    };
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (ways[e.key] && !slid) keys[e.key] = () => pick(map.step(here(), ...ways[e.key]));
    if (e.key === " " && e.target.tagName !== "BUTTON") keys[" "] = () => panel.toggle();
    if (!keys[e.key]) return;
    e.preventDefault();
    keys[e.key]();
  });

  // Which two descriptors are shown, and what is done with the others.
  const slices = evo.slices(first, () => axes());
  const axes = () => fields.forEach((field) => field.map.show(slices.shown()));
  if (d > 2) get("ways").append(...slices.bars);

  // The generations of the run.
  const last = () => Math.max(...stories.map((story) => story.generations)) - 1;
  const curves = () => stories.map((story) => story.curve());
  let lines = curves();
  const travel = (to, follow = true) => {
    time = Math.min(Math.max(Math.round(to), 0), last());
    const cell = here();
    stories.forEach((story) => story.go(time >= last() ? Infinity : time));
    get("when").value = time;
    const at = lines.map((line) => Math.min(time, line[0].length - 1));
    const said = lines.map((line, i) => `${line[1][at[i]].toFixed(1)} % filled`).join(" | "), scores = lines.map((line, i) => evo.number(line[2][at[i]])).join(" | ");
    get("generation").textContent = `generation ${time} of ${last()}\n${said}, QD ${scores}`;
    chart?.setCursor({ left: chart.valToPos(time, "x"), top: 0 });
    refill();
    if (color !== "fitness" || mode === "difference") recolor();
    if (follow && cell >= 0) { root = -1; pick(cell); }
  };
  const run = (on) => {
    clearInterval(ticking);
    ticking = 0;
    get("run").textContent = on ? "❚❚" : "▶";
    get("run").ariaLabel = on ? "Pause the generations" : "Play the generations";
    if (!on) return;
    if (time >= last()) travel(0);
    const step = Math.max(1, Math.round(last() / 120));
    ticking = setInterval(() => { travel(time + step); if (time >= last()) run(false); }, Math.max(50, 6000 / Math.max(last(), 1)));
  };
  const curve = () => { // coverage (line) and QD score (dashes) under the slider, by uPlot
    chart?.destroy();
    chart = null;
    const host = get("curve"), wide = host.clientWidth - 14;
    if (get("time").hidden || wide < 40) return;
    const hues = two ? [evo.diverging(-1), evo.diverging(1)] : [evo.themed("accent"), evo.themed("accent")];
    const x = lines.reduce((a, b) => (b[0].length > a[0].length ? b : a))[0], padded = (y) => x.map((_, i) => y[i] ?? null);
    const series = lines.flatMap((_, i) => [{ stroke: hues[i], width: 1.5, points: { show: false } }, { stroke: hues[i], width: 1, dash: [4, 3], scale: "q", points: { show: false } }]);
    chart = new uPlot({
      width: wide, height: 34, legend: { show: false }, axes: [{ show: false }, { show: false }], padding: [3, 0, 2, 0],
      scales: { x: { time: false }, y: { range: (_, a, b) => [0, Math.max(b, 1e-9)] }, q: { range: (_, a, b) => [Math.min(a, 0), Math.max(b, a + 1e-9)] } },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } }, series: [{}, ...series],
    }, [x, ...lines.flatMap((line) => [padded(line[1]), padded(line[2])])], host);
    chart.over.onclick = (e) => travel(chart.posToVal(e.clientX - chart.over.getBoundingClientRect().left, "x"));
    chart.over.onmouseleave = () => chart?.setCursor({ left: chart.valToPos(time, "x"), top: 0 });
    chart.setCursor({ left: chart.valToPos(time, "x"), top: 0 });
  };
  const timed = () => { get("when").max = last(); get("time").hidden = !stories.some((story) => story.known) || last() < 1; };
  get("when").oninput = (e) => travel(+e.target.value);
  get("run").onclick = () => run(!ticking);
  new ResizeObserver(() => curve()).observe(get("curve"));

  // What is new, on a page that came from `evo archive --serve`.
  const news = async () => {
    try {
      const answer = await fetch(`news?first=${stories.map((story) => story.count).join(",")}&generations=${stories.map((story) => story.generations).join(",")}`);
      const fresh = answer.ok ? await answer.json() : null;
      if (fresh?.some((one) => one)) {
        const end = time >= last();
        fresh.forEach((one, i) => { if (one) { stories[i].take(one); runs[i].episodes = {}; } });
        lines = curves();
        range = spanned(always);
        offered();
        timed();
        told();
        curve();
        travel(end ? last() : time, false);
        recolor();
        if (chosen >= 0) show();
      }
      get("live").textContent = answer.ok ? "● live" : "the server failed";
    } catch {
      get("live").textContent = "○ the server is gone";
    }
    setTimeout(news, 1000);
  };

  get("color").onchange = (e) => { color = e.target.value; recolor(); };
  if (two) {
    const views = [["each", "both"], ...runs.map((run, i) => [String(i), run.title]), ["difference", "difference"]];
    get("view").append(...views.map(([value, textContent]) => evo.element("option", { value, textContent })));
    get("view").onchange = (e) => { mode = e.target.value; lay(); };
    get("viewing").hidden = false;
  }
  evo.dark.addEventListener("change", restyle);
  told();
  timed();
  compose();
  lay();
  travel(last());
  const wanted = () => { const cell = /^#cell=(\d+)$/.exec(location.hash); return cell && +cell[1] < first.cells ? +cell[1] : extreme(1); };
  window.addEventListener("hashchange", () => pick(wanted()));
  pick(wanted());
  if (data.live) { get("live").hidden = false; news(); }
})();
