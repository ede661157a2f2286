"use strict";
// The map of an archive on a canvas: evo.map(canvas, data, view, moved) draws cells, finds the one under a point, zooms
// and pans. Maps that share a `view` {x, y, zoom} show the same part; `moved` is called when it changes. Places are in [0, 1]^2 of the two chosen descriptors, y up. A mark is what is drawn: a cell, or the best of several.
(() => {
  const VIRIDIS = ["440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26", "fde725"];
  const KINDS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f7f7f"];
  const LEVELS = 96, LEFT = 58, BOTTOM = 42, TOP = 10, RIGHT = 10;

  evo.viridis = (x) => {
    const at = Math.min(Math.max(x, 0), 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2), f = at - i;
    const part = (k) => Math.round(parseInt(VIRIDIS[i].slice(k, k + 2), 16) * (1 - f) + parseInt(VIRIDIS[i + 1].slice(k, k + 2), 16) * f);
    return `rgb(${part(0)},${part(2)},${part(4)})`;
  };
  evo.kind = (code) => KINDS[code % KINDS.length];
  evo.diverging = (x) => { // from -1, blue, over the theme's grey to 1, orange
    const mid = evo.dark.matches ? [58, 66, 76] : [238, 240, 242], end = x < 0 ? [33, 102, 172] : [217, 95, 2], f = Math.min(Math.abs(x), 1);
    return `rgb(${mid.map((m, k) => Math.round(m + (end[k] - m) * f)).join(",")})`;
  };

  evo.alone = ["#8d949c", "#a678c8"]; // cells of the first archive alone, of the second: no colours of a difference

  // How much wider than tall a map of two descriptors is, where it is to scale: they span about the same, or name one unit, "x (m)".
  evo.aspect = ({ names, bounds }, [a, b]) => {
    if (b === undefined) return null;
    const [across, up] = [a, b].map((k) => bounds[k][1] - bounds[k][0]), [one, other] = [a, b].map((k) => /\([^()]+\)$/.exec(names[k])?.[0]);
    return Math.max(across / up, up / across) <= (one && one === other ? 4 : 1.1) ? across / up : null;
  };

  const ticks = (low, high, most) => {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((x) => x * power >= rough), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  };

  // Where a cell's middle is along descriptor k, in [0, 1], and whether that is within a slice [low, high).
  evo.middle = (data, cell, k) => {
    const [low, high] = data.bounds[k];
    return data.shape ? (evo.index(data, cell)[k] + 0.5) / data.shape[k] : (data.centroids[cell * data.names.length + k] - low) / (high - low);
  };
  evo.within = (at, [low, high]) => (at >= low || low <= 0) && (at < high || high >= 1);

  // Marks by the two axes shown; of another axis k only the slice fixed[k] is, or (null) all. A place has one mark, its
  // best cell; of a CVT above two descriptors a place is a square of a few cells, unless `every` cell is to have a mark.
  const marking = (data, axes, fixed, every) => {
    const d = data.names.length, [a, b] = axes, marks = [], there = [];
    for (let c = 0; c < data.cells; c++)
      if (fixed.every((slice, k) => !slice || axes.includes(k) || evo.within(evo.middle(data, c, k), slice))) there.push(c);
    if (data.shape || (d > 2 && !every)) {
      const share = fixed.reduce((all, slice) => (slice ? all * (slice[1] - slice[0]) : all), 1); // the same wherever slices are
      const side = Math.min(Math.max(Math.round(Math.sqrt((data.cells * share) / 3)), 5), 64);
      const wide = data.shape ? data.shape[a] : side, tall = b === undefined ? 1 : data.shape ? data.shape[b] : side;
      for (let j = 0; j < tall; j++)
        for (let i = 0; i < wide; i++) marks.push({ box: [i / wide, j / tall, (i + 1) / wide, (j + 1) / tall], cells: [], middle: [(i + 0.5) / wide, (j + 0.5) / tall] });
      const place = (c, k, n) => Math.min(Math.max(Math.floor(evo.middle(data, c, k) * n), 0), n - 1);
      for (const c of there) marks[(b === undefined ? 0 : place(c, b, tall)) * wide + place(c, a, wide)].cells.push(c);
    } else if (d === 1) {
      const order = Array.from({ length: data.cells }, (_, c) => c).sort((x, y) => data.centroids[x] - data.centroids[y]);
      const middle = order.map((c) => evo.middle(data, c, 0));
      order.forEach((c, i) => marks.push({ cells: [c], middle: [middle[i], 0.5], box: [
        i ? (middle[i - 1] + middle[i]) / 2 : 0, 0, i + 1 < order.length ? (middle[i] + middle[i + 1]) / 2 : 1, 1] }));
    } else {
      let first = 0;
      for (const c of there) { // corners are those of all cells: there are some of two descriptors alone
        const corners = data.corners && data.corners.subarray(2 * first, 2 * (first += data.counts[c]));
        marks.push({ cells: [c], middle: axes.map((k) => evo.middle(data, c, k)), corners, flip: a === 1 });
      }
    }
    return marks;
  };

  evo.index = (data, cell) => {
    const at = [];
    for (let k = data.shape.length - 1; k >= 0; k--) { at[k] = cell % data.shape[k]; cell = Math.floor(cell / data.shape[k]); }
    return at;
  };

  evo.map = (canvas, data, view, moved) => {
    const pen = canvas.getContext("2d"), d = data.names.length, profile = d === 1;
    let axes = profile ? [0] : [0, 1], fixed = data.names.map(() => null), every = false, marks = [], path = [], range = [0, 1], dots = () => false;
    const below = document.createElement("canvas"), behind = below.getContext("2d");
    let near = () => null, stale = true, size = [0, 0], request = 0, fitness = null, paint = null, chosen = -1, hovered = -1, kept = -1, colors = null, floor = 0, ceiling = 1;

    let box = [LEFT, TOP, 0, 0];
    const plot = () => box; // left, top, width, height
    const frame = () => {
      const wide = size[0] - LEFT - RIGHT, tall = size[1] - TOP - BOTTOM, ratio = evo.aspect(data, axes);
      const [w, h] = ratio ? [Math.min(wide, tall * ratio), Math.min(tall, wide / ratio)] : [wide, tall];
      box = [LEFT + (wide - w) / 2, TOP, w, h];
    };
    const screen = (x, y) => { const [l, t, w, h] = plot(); return [l + (x - view.x) * view.zoom * w, t + h - (y - view.y) * view.zoom * h]; };
    const place = (px, py) => { const [l, t, w, h] = plot(); return [(px - l) / w / view.zoom + view.x, (t + h - py) / h / view.zoom + view.y]; };
    const rise = (f) => (f - floor) / (ceiling - floor);
    const unit = (x, k) => (x - data.bounds[k][0]) / (data.bounds[k][1] - data.bounds[k][0]);
    const held = (mark) => { // the elite that a mark shows: the fittest of its cells, or none
      let best = -1;
      for (const c of mark.cells) if (!Number.isNaN(fitness[c]) && (best < 0 || fitness[c] > fitness[best])) best = c;
      return best;
    };
    const trace = (m, top) => {
      if (m.corners) {
        const n = m.corners.length / 2, k = m.flip ? 1 : 0;
        for (let i = 0; i < n; i++) {
          const [x, y] = screen(m.corners[2 * i + k] / 65535, m.corners[2 * i + 1 - k] / 65535);
          i ? pen.lineTo(x, y) : pen.moveTo(x, y);
        }
        pen.closePath();
      } else if (m.box) {
        const [x0, y0] = screen(m.box[0], m.box[1]), [x1, y1] = screen(m.box[2], profile ? top : m.box[3]);
        const [l, b, r, t] = [x0, y0, x1, y1].map(Math.round); // whole pixels: no seams
        pen.rect(l, t, Math.max(r - l, 1), Math.max(b - t, 1));
      } else {
        const [x, y] = screen(...m.middle), radius = Math.min(Math.max(3, 1.4 * Math.sqrt(view.zoom)) + 150 / Math.sqrt(data.cells) / 5, 9);
        pen.moveTo(x + radius, y);
        pen.arc(x, y, radius, 0, 7);
      }
    };
    const outline = (cell, color, width) => {
      const m = marks.find((mark) => mark.cells.includes(cell));
      if (!m) return;
      pen.beginPath();
      trace(m, rise(fitness[cell]));
      pen.lineJoin = "round";
      [pen.strokeStyle, pen.lineWidth] = [colors.card, width + 2];
      pen.stroke();
      [pen.strokeStyle, pen.lineWidth] = [color, width];
      pen.stroke();
    };
    const line = () => { // ancestors, oldest first, as places of descriptors
      if (path.length < 2) return;
      const points = path.map((p) => screen(unit(p.descriptor[axes[0]], axes[0]), profile ? rise(p.fitness) : unit(p.descriptor[axes[1]], axes[1])));
      for (const [color, width] of [[colors.card, 4], [colors.mark, 1.6]]) {
        pen.beginPath();
        points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
        [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [color, width, "round"];
        pen.stroke();
      }
      points.slice(0, -1).forEach(([x, y], i) => {
        pen.beginPath();
        pen.arc(x, y, i ? 2.4 : 4, 0, 7);
        [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [i ? colors.mark : colors.card, colors.mark, 2];
        pen.fill();
        if (!i) pen.stroke();
      });
    };
    const axis = () => {
      const [l, t, w, h] = plot();
      pen.fillStyle = colors.soft;
      pen.strokeStyle = colors.line;
      pen.lineWidth = 1;
      pen.strokeRect(l - 0.5, t - 0.5, w + 1, h + 1);
      pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
      const along = (k, from) => { const [a, b] = k === undefined ? [floor, ceiling] : data.bounds[k]; return [a + from * (b - a), a + (from + 1 / view.zoom) * (b - a), a, b]; };
      const [x0, x1, xa, xb] = along(axes[0], view.x), [y0, y1, ya, yb] = along(axes[1], view.y);
      const [xs, xd] = ticks(x0, x1, Math.max(2, w / 90)), [ys, yd] = ticks(y0, y1, Math.max(2, h / 70));
      pen.textAlign = "center"; pen.textBaseline = "top";
      for (const x of xs) { const [px] = screen((x - xa) / (xb - xa), 0); pen.fillText(x.toFixed(xd), Math.min(px, size[0] - pen.measureText(x.toFixed(xd)).width / 2), t + h + 6); pen.fillRect(px, t + h, 1, 4); }
      pen.textAlign = "right"; pen.textBaseline = "middle";
      for (const y of ys) { const [, py] = screen(0, (y - ya) / (yb - ya)); pen.fillText(y.toFixed(yd), l - 7, py); pen.fillRect(l - 4, py, 4, 1); }
      pen.fillStyle = colors.ink;
      pen.textAlign = "center"; pen.textBaseline = "alphabetic";
      pen.fillText(data.names[axes[0]], l + w / 2, t + h + BOTTOM - 6, w);
      pen.save();
      pen.translate(l - LEFT + 13, t + h / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(profile ? "fitness" : data.names[axes[1]], 0, 0, h);
      pen.restore();
    };
    const clipped = (what) => {
      pen.save();
      pen.beginPath();
      pen.rect(...plot());
      pen.clip();
      what();
      pen.restore();
    };
    const cells = () => {
      const [l, t, w, h] = plot();
      pen.fillStyle = colors.empty;
      pen.fillRect(l, t, w, h);
      const centre = [view.x + 0.5 / view.zoom, view.y + 0.5 / view.zoom], reach = 0.5 / view.zoom + 4 / Math.sqrt(data.cells);
      const piles = new Map(); // marks of one colour are one path: 10,000 cells stay quick
      for (const m of marks) {
        const cell = (m.held = held(m));
        if (cell < 0 || (!m.box && Math.max(Math.abs(m.middle[0] - centre[0]), Math.abs(m.middle[1] - centre[1])) > reach)) continue;
        const color = paint(cell);
        piles.has(color) ? piles.get(color).push(m) : piles.set(color, [m]);
      }
      if (marks.length && !marks[0].box && !marks[0].corners) { // dots that overlap: the fittest on top
        const top = new Map([...piles].map(([color, pile]) => [color, Math.max(...pile.map((m) => fitness[m.held]))]));
        const sorted = [...piles].sort((one, other) => top.get(one[0]) - top.get(other[0]));
        piles.clear();
        for (const [color, pile] of sorted) piles.set(color, pile);
      }
      let seen = 0;
      for (const pile of piles.values()) seen += pile.length;
      const edges = view.zoom > 1 && seen < 600; // near enough to tell cells apart: with their borders
      for (const [color, pile] of piles) {
        pen.beginPath();
        for (const m of pile) trace(m, profile ? rise(fitness[m.held]) : 1);
        pen.fillStyle = pen.strokeStyle = color;
        pen.fill();
        if (pile[0].corners && !edges) { pen.lineWidth = 0.7; pen.stroke(); }
        if (edges) { [pen.strokeStyle, pen.lineWidth] = [colors.card, 0.8]; pen.stroke(); }
      }
      for (const m of marks) // what the page can play carries a dot
        if (m.held >= 0 && dots(m.held)) {
          const [x, y] = screen(m.middle[0], profile ? rise(fitness[m.held]) - 0.02 : m.middle[1]);
          pen.beginPath();
          pen.arc(x, y, 2.6, 0, 7);
          pen.fillStyle = "#fff"; pen.strokeStyle = "#111"; pen.lineWidth = 1;
          pen.fill(); pen.stroke();
        }
    };
    const highlights = () => {
      line();
      if (hovered >= 0 && hovered !== chosen) outline(hovered, colors.ink, 1.2);
      if (kept >= 0 && kept !== chosen) outline(kept, colors.ink, 2.4);
      if (chosen >= 0) outline(chosen, colors.mark, 2.4);
    };
    const draw = () => { // the map, kept as a picture until it changes, and what lies on it
      request = 0;
      const scale = devicePixelRatio || 1;
      size = [canvas.clientWidth, canvas.clientHeight];
      if (!size[0] || !size[1] || !paint || !fitness) return;
      frame();
      const whole = size.map((x) => Math.round(x * scale));
      if (canvas.width !== whole[0] || canvas.height !== whole[1]) {
        for (const sheet of [canvas, below]) [sheet.width, sheet.height] = whole;
        stale = true;
      }
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, ...size);
      if (stale) {
        clipped(cells);
        axis();
        behind.clearRect(0, 0, ...whole);
        behind.drawImage(canvas, 0, 0);
      } else pen.drawImage(below, 0, 0, ...size);
      stale = false;
      clipped(highlights);
    };
    const soon = () => { request ||= requestAnimationFrame(draw); };
    const bound = () => {
      view.zoom = Math.min(Math.max(view.zoom, 1), 60);
      for (const k of ["x", "y"]) view[k] = Math.min(Math.max(view[k], 0), 1 - 1 / view.zoom);
      moved();
    };
    const inside = (px, py) => { const [l, t, w, h] = plot(); return px >= l && px <= l + w && py >= t && py <= t + h; };
    const nearest = (px, py) => { // the mark of a point: by centroid for a CVT, by box for a grid
      const [x, y] = place(px, py);
      if (!marks.length) return null;
      if (marks[0].box) return marks.find((m) => x >= m.box[0] && x < m.box[2] && (profile || (y >= m.box[1] && y < m.box[3])));
      const spans = axes.map((k) => data.bounds[k][1] - data.bounds[k][0]), [, , w, h] = plot();
      const [sx, sy] = marks[0].corners ? spans : [w * view.zoom, h * view.zoom];
      return near(x, y, [sx, sy], marks[0].corners ? Infinity : 14, (m) => m.corners || held(m) >= 0);
    };
    return {
      show(settings) { // axes, fixed, every, fitness, range, paint, dots, path, chosen, hovered, colors: whatever changed
        ({ fitness, range, paint, dots, path, colors } = { fitness, range, paint, dots, path, colors, ...settings });
        const [low, high] = range;
        floor = low >= 0 ? 0 : low - 0.05 * (high - low || 1);
        ceiling = high + 0.05 * (high - floor || 1);
        if (settings.kept !== undefined) kept = settings.kept;
        if (settings.chosen !== undefined) chosen = settings.chosen;
        if (settings.hovered !== undefined) hovered = settings.hovered;
        if (settings.axes || settings.fixed || !marks.length) {
          [axes, fixed, every] = [settings.axes || axes, settings.fixed || fixed, settings.every ?? every];
          marks = marking(data, axes, fixed, every);
          near = evo.near(marks);
        }
        const above = ["chosen", "hovered", "kept", "path"]; // what lies on the map: nothing of it is drawn anew
        stale ||= Object.keys(settings).some((name) => !above.includes(name));
        soon();
      },
      at(px, py) { const m = inside(px, py) && nearest(px, py); return m ? held(m) : -1; },
      where(cell) { const m = marks.find((mark) => mark.cells.includes(cell)); return m ? screen(...m.middle) : null; },
      zoom(factor, px, py) {
        const [l, t, w, h] = plot(), [x, y] = place(px ?? l + w / 2, py ?? t + h / 2), before = view.zoom;
        view.zoom = Math.min(Math.max(view.zoom * factor, 1), 60);
        view.x = x - ((x - view.x) * before) / view.zoom;
        view.y = y - ((y - view.y) * before) / view.zoom;
        bound();
      },
      pan(dx, dy) { const [, , w, h] = plot(); view.x -= dx / w / view.zoom; view.y += dy / h / view.zoom; bound(); },
      whole() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); moved(); },
      step(cell, dx, dy) { // the nearest elite from a cell in a direction, within a right angle
        const from = marks.find((m) => m.cells.includes(cell));
        let best = -1, least = Infinity;
        for (const m of marks) {
          const elite = held(m), x = m.middle[0] - (from?.middle[0] ?? 0.5), y = m.middle[1] - (from?.middle[1] ?? 0.5);
          const ahead = x * dx + y * dy, aside = Math.abs(x * dy - y * dx), cost = ahead + 2 * aside;
          if (elite >= 0 && m !== from && ahead > 1e-9 && aside <= ahead && cost < least) [best, least] = [elite, cost];
        }
        return best;
      },
      redraw() { stale = true; soon(); },
    };
  };
  evo.levels = LEVELS;
})();
