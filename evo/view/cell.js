"use strict";
// The panel of one elite: evo.panel(host, story, page) -> {show(row, root), clear, toggle, step, destroy}. Shows what is
// known of it, plays its episode, draws what it scored when judged again, and its line of ancestors.
(() => {
  const svg = evo.drawing;

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
    const code = evo.element("code", { textContent: text, title: text }), button = evo.element("button", { type: "button", textContent: "Copy", ariaLabel: "Copy " + text });
    button.onclick = () => copy(text, button, code);
    return evo.element("div", { className: "command" }, code, button);
  };
  const commands = ({ folder, undrawn }, elite, final, held) => {
    if (folder === null) return [];
    const which = final ? `--cell ${elite.cell}` : elite.member >= 0 ? `--generation ${elite.generation} --member ${elite.member}` : null;
    if (which === null) return [];
    const films = undrawn ? [] : [`evo render ${folder} ${which}`, ...(final && !held ? [`evo archive ${folder} ${which}`] : [])];
    return [...films, `evo replay ${folder} ${which} --out elite.safetensors`].map(command);
  };
  // Why there is nothing to be seen of an elite, and what to do about it.
  const excuse = ({ folder, undrawn, episodes, dotted }, final, known) => {
    if (undrawn) return final || !known ? `No replay: ${undrawn}` : "";
    const held = Object.keys(episodes).length, ways = folder === null ? "" : final ? " These commands film it, and put it on the page:" : " This command films it:";
    if (!final) return `An ancestor, and this page holds replays of today's elites alone.${known ? ways : ""}`;
    return (held ? `This page holds ${held} replays${dotted ? ", marked by white dots" : ""}, and none of this cell.` : "This page holds no replays.") + ways;
  };

  // What an elite scored when it was judged again `count` times: a dot for each score that is known, their mean, and
  // what let it in. Of looks of the run itself, or of `evo eval`, the mean alone is known.
  const judged = (scores, mean, count, reported) => {
    const head = evo.element("h3", { textContent: "On fresh luck" }), note = (textContent) => evo.element("p", { className: "note", textContent });
    if (!Number.isFinite(mean)) return [head, note("No look at it was finite.")];
    const all = [...scores, mean, reported], low = Math.min(...all), high = Math.max(...all), x = (v) => (low < high ? 14 + ((v - low) / (high - low)) * 332 : 180);
    const said = `Judged ${count > 0 ? `${count} ${count === 1 ? "time " : "times "}` : ""}again: corrected ${evo.number(mean)} (|), reported ${evo.number(reported)} (▼).`;
    const sketch = svg("svg", { viewBox: "0 0 360 46", class: "sketch", role: "img", "aria-label": said });
    sketch.append(svg("line", { x1: 8, x2: 352, y1: 22, y2: 22, class: "rule" }));
    scores.forEach((v, i) => sketch.append(svg("circle", { cx: x(v), cy: 22 + ((i * 7) % 13) - 6, r: 3, class: "score" })));
    sketch.append(svg("path", { d: `M${x(mean)} 8V36`, class: "mean" }), svg("path", { d: `M${x(reported)} 4l-5 -1 5 9 5 -9z`, class: "reported" }));
    const ends = low < high ? [[low, "start"], [high, "end"]] : [[low, "middle"]];
    for (const [v, anchor] of ends) sketch.append(svg("text", { x: x(v), y: 45, "text-anchor": anchor }, evo.number(v)));
    return [head, sketch, note(said)];
  };
  const looks = ({ run, value }, { cell, fitness }) => { // of today's elite
    const scores = run.scores[cell]?.filter((x) => x !== null);
    if (scores) return judged(scores, scores.reduce((sum, x) => sum + x, 0) / scores.length, scores.length, fitness);
    const mean = value("corrected", cell);
    return Number.isFinite(mean) ? judged([], mean, value("looks", cell), fitness) : [];
  };

  // Ancestors: fitness over generations, and the same as a list; each of them can be chosen.
  const lineage = (line, row, choose) => {
    const head = evo.element("h3", { textContent: line.length > 1 ? `Line of ${line.length}, from generation ${line[0].generation}` : "First of its line" });
    if (line.length < 2) return [head];
    const xs = line.map((e) => e.generation), ys = line.map((e) => e.fitness), least = Math.min(...ys);
    const wide = xs[xs.length - 1] - xs[0] || 1, tall = Math.max(...ys) - least || 1;
    const at = (e) => [10 + ((e.generation - xs[0]) / wide) * 340, 58 - ((e.fitness - least) / tall) * 46];
    const sketch = svg("svg", { viewBox: "0 0 360 66", class: "sketch", role: "group", "aria-label": "Fitness of the ancestors over generations" });
    sketch.append(svg("polyline", { points: line.map((e) => at(e).join(",")).join(" "), class: "trail" }));
    const list = evo.element("ol", { className: "line" });
    line.forEach((e) => {
      const [x, y] = at(e), said = `generation ${e.generation}, cell ${e.cell}, fitness ${evo.number(e.fitness)}`, here = e.row === row;
      const dot = svg("circle", { cx: x, cy: y, r: here ? 5 : 3.4, class: here ? "step here" : "step" }, svg("title", {}, said));
      dot.onclick = () => choose(e.row);
      sketch.append(dot);
      const button = evo.element("button", { type: "button", ariaLabel: said, onclick: () => choose(e.row), ariaCurrent: here ? "step" : "false" },
        evo.element("b", { textContent: e.generation }), ` cell ${e.cell}`, evo.element("span", { textContent: evo.number(e.fitness) }));
      list.append(evo.element("li", {}, button));
    });
    queueMicrotask(() => { const here = list.querySelector("[aria-current=step]"); if (here) list.scrollTop = here.offsetTop - list.offsetTop - 40; });
    return [head, sketch, list];
  };

  const bars = (numbers) => { // a member's parameters, where nothing else is to be seen
    const high = Math.max(...numbers, 0), low = Math.min(...numbers, 0), scale = 80 / (high - low || 1), zero = 5 + high * scale, wide = 340 / numbers.length;
    const sketch = svg("svg", { viewBox: "0 0 360 90", class: "sketch", role: "img", "aria-label": `${numbers.length} parameters, from ${evo.number(Math.min(...numbers))} to ${evo.number(Math.max(...numbers))}` });
    sketch.append(svg("line", { x1: 10, x2: 350, y1: zero, y2: zero, class: "rule" }));
    numbers.forEach((v, i) => sketch.append(svg("rect", { x: 10 + i * wide, width: Math.max(wide * 0.8, 0.6),
      y: zero - Math.max(v, 0) * scale, height: Math.max(Math.abs(v) * scale, 0.5), class: "bar" }, svg("title", {}, `${i}: ${evo.number(v)}`))));
    return [evo.element("h3", { textContent: `Parameters${numbers.length === 256 ? " (the first 256)" : ""}` }), sketch];
  };

  evo.panel = (host, story, page) => {
    const { run } = story, part = (name) => evo.element("div", { className: name });
    const heading = evo.element("h2", { ariaLive: "polite" }), pin = evo.element("button", { type: "button", className: "pin" });
    const facts = evo.element("dl", {}), replay = evo.element("p", { className: "note replay" });
    const stage = part("player"), again = part("again"), family = part("family"), copies = part("commands");
    host.replaceChildren(evo.element("div", { className: "bar head" }, heading, pin), stage, replay, facts, again, family, copies);
    const of = page.title ? [evo.element("small", { textContent: ` of ${page.title}` })] : [];
    const placeOf = run.numbers && new Map([...evo.array(run.numbers.cells)].map((cell, i) => [cell, i])), values = run.numbers && evo.array(run.numbers.values);
    const numbersOf = (cell) => (placeOf?.has(cell) ? values.subarray(placeOf.get(cell) * run.numbers.wide, (placeOf.get(cell) + 1) * run.numbers.wide) : null);
    let player = null, played = null, shown = -1, line = [];
    pin.onclick = () => page.pin();
    pin.hidden = !page.pin;

    const rows = (e) => {
      const found = [["fitness", evo.number(e.fitness)]];
      run.names.forEach((name, k) => found.push([name, evo.number(e.descriptor[k])]));
      if (run.shape && story.d > 1) found.push(["grid index", evo.index(run, e.cell).join(", ")]);
      if (story.known) found.push(["generation", evo.number(e.generation)]);
      if (story.known && e.member >= 0) found.push(["member", String(e.member)]);
      return [...found, ...story.says(e.row)];
    };
    const link = (row, said) => evo.element("button", { type: "button", className: "link", textContent: said(story.elite(row)), onclick: () => page.choose(row) });
    const parents = (e) => {
      if (!story.known || !e.parents.length) return [];
      const known = [...new Set(e.parents.filter((r) => r >= 0))];
      if (!known.length) return ["none: the initial parameters, or an emitter's own"];
      return known.map((r) => link(r, (one) => `cell ${one.cell}, generation ${one.generation}`));
    };
    const play = async (e) => {
      const key = `${e.cell}@${e.row}`;
      if (played === key) return;
      played = key;
      player?.destroy();
      player = null;
      stage.replaceChildren();
      host.append(copies);
      const final = story.final(e.row), known = e.member >= 0;
      let scene = final ? run.episodes[e.cell] : null;
      if (typeof scene?.shapes?.[0] === "number") scene = { ...scene, shapes: scene.shapes.map((i) => run.shapes[i]) };
      if (!scene && page.fetch && !run.undrawn && (final || known)) {
        replay.textContent = "Playing it on the server …";
        scene = await page.fetch(e).catch((error) => { replay.textContent = error.message; return null; });
        if (played !== key || !scene) return;
      }
      if (scene) {
        replay.textContent = scene.title;
        player = evo.player(stage, scene);
      } else {
        const numbers = final && numbersOf(e.cell);
        if (numbers) stage.replaceChildren(...bars(numbers));
        replay.textContent = numbers ? "" : excuse(run, final, known);
        if (!numbers && !run.undrawn) replay.after(copies); // right under what it says
      }
    };
    const panel = {
      show(row, root = row) {
        const e = story.elite(row), final = story.final(row), fate = story.fate(row);
        shown = row;
        line = story.line(root);
        if (!line.some((step) => step.row === row)) line = story.line(row);
        const told = final ? "" : fate === null ? " not its fittest" : ` until generation ${fate}`;
        heading.replaceChildren(`Cell ${e.cell}`, ...of, ...(told ? [evo.element("small", { textContent: told })] : []));
        facts.replaceChildren(...rows(e).flatMap(([key, value]) => [evo.element("dt", { textContent: key }), evo.element("dd", { textContent: value })]));
        for (const [name, some] of [["parents", parents(e)], [fate === null ? "also here" : "here now", story.beside(row).map((r) => link(r, (one) => `fitness ${evo.number(one.fitness)}, generation ${one.generation}`))]])
          if (some.length) facts.append(evo.element("dt", { className: "wide", textContent: name }), evo.element("dd", { className: "wide" }, ...some));
        again.replaceChildren(...(final ? looks(story, e) : []));
        family.replaceChildren(...(story.known && run.past.fathers ? lineage(line, row, page.choose) : []));
        copies.replaceChildren(...commands(run, e, final, !!run.episodes[e.cell] || !!page.fetch));
        play(e);
      },
      empty(cell) {
        shown = -1;
        played = null;
        player?.destroy();
        player = null;
        heading.replaceChildren(cell < 0 ? "No cell chosen" : `Cell ${cell} (empty${story.time < story.generations - 1 ? " at this generation" : ""})`, ...of);
        for (const node of [facts, stage, again, family, copies]) node.replaceChildren();
        replay.textContent = "";
      },
      pinned(on) { pin.textContent = on ? "Close" : "Compare"; pin.title = on ? "Close this panel (c)" : "Keep this elite and choose another beside it (c)"; },
      step(by) { const i = line.findIndex((e) => e.row === shown), next = line[i + by]; if (next) page.choose(next.row); },
      get line() { return line; },
      get row() { return shown; },
      toggle: () => player?.toggle(),
      destroy: () => player?.destroy(),
    };
    panel.pinned(false);
    return panel;
  };
})();
