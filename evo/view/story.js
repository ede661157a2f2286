"use strict";
// One run's archive through time: evo.story(run) knows who lived where after any generation, and everyone's ancestors.
// An arrival is a row: its generation, cell, emitter, fitness, descriptor, the rows it was made of, its member number.
// A deep archive has several places a cell, and arrivals tell the place; who lives in a cell is the fittest of them.
(() => {
  const NAMES = ["generation", "cell", "emitter", "fitness", "descriptor", "parents", "member"];
  const decode = (past, depth) => {
    const rows = Object.fromEntries(NAMES.map((name) => [name, evo.array(past[name])]));
    rows.place = rows.cell;
    rows.cell = rows.place.map((place) => Math.floor(place / depth));
    return rows;
  };
  const joined = (a, b) => { const both = new a.constructor(a.length + b.length); both.set(a); both.set(b, a.length); return both; };

  evo.visits = "visits (whole run)"; // they are known of the end alone, and are the cell's, whoever lives there

  evo.story = (run) => {
    const d = run.names.length, { fathers, depth } = run.past;
    let rows = decode(run.past, depth), columns = [], tenants = null, places = null, time = 0, generations = 1;
    const story = { run, d, known: run.past.known };

    const made = run.past.known && run.emitters.length > 0; // then rows say who made an elite, at any time
    const several = made && run.emitters.length > 1;
    const own = (c) => (c.name === "generation" && story.known) || (c.name === "emitter" && made);
    const read = (list) => { columns = list.map((c) => ({ ...c, values: evo.array(c.values) })).filter((c) => !own(c)); };
    const last = () => { generations = Math.max(run.generations || 0, (rows.generation[rows.generation.length - 1] ?? 0) + 1); };

    // Who lives in each place after a generation, the fittest of each cell, and their fitness (NaN: empty).
    const settled = (generation) => {
      const found = new Int32Array(run.cells * depth).fill(-1), n = rows.cell.length;
      for (let r = 0; r < n && rows.generation[r] <= generation; r++) found[rows.place[r]] = Number.isNaN(rows.fitness[r]) ? -1 : r;
      return found;
    };
    const there = (places, cell) => [...places.subarray(cell * depth, (cell + 1) * depth)].filter((row) => row >= 0);
    const fittest = (some) => some.reduce((best, row) => (best < 0 || rows.fitness[row] > rows.fitness[best] ? row : best), -1);
    const tops = (places) => (depth === 1 ? places : new Int32Array(run.cells).map((_, cell) => fittest(there(places, cell))));
    story.go = (generation) => {
      time = Math.min(Math.max(generation, 0), generations - 1);
      places = settled(time);
      tenants = tops(places);
      story.fitness = Float32Array.from(tenants, (r) => (r < 0 ? NaN : rows.fitness[r]));
    };
    story.tenant = (cell) => (cell < 0 ? -1 : tenants[cell]);
    story.beside = (row) => (depth > 1 ? there(places, rows.cell[row]).filter((other) => other !== row) : []); // who else lives in its cell
    story.final = (row) => row >= 0 && story.end[rows.cell[row]] === row;

    story.elite = (row) => row < 0 ? null : {
      row, cell: rows.cell[row], generation: rows.generation[row], emitter: rows.emitter[row], fitness: rows.fitness[row],
      descriptor: [...rows.descriptor.subarray(row * d, row * d + d)], member: rows.member[row],
      parents: [...rows.parents.subarray(row * fathers, row * fathers + fathers)],
    };
    story.line = (row) => { // first parents back to the first ancestor; oldest first
      const found = [];
      for (let r = row; r >= 0 && found.length < 100000; r = fathers ? rows.parents[r * fathers] : -1) found.push(r);
      return found.reverse().map(story.elite);
    };
    story.fate = (row) => { // the generation in which somebody else took its place, or null
      for (let r = row + 1; r < rows.cell.length; r++) if (rows.place[r] === rows.place[row]) return rows.generation[r];
      return null;
    };

    // Coverage and QD score after every generation.
    story.curve = () => {
      const now = new Int32Array(run.cells * depth).fill(-1), x = [], coverage = [], score = [];
      let r = 0, count = 0, total = 0;
      const add = (row, sign) => { if (row >= 0) { count += sign; total += sign * (rows.fitness[row] - run.offset); } };
      const top = depth === 1 ? (cell) => now[cell] : (cell) => fittest(there(now, cell));
      for (let g = 0; g < generations; g++) {
        for (; r < rows.cell.length && rows.generation[r] <= g; r++) {
          add(top(rows.cell[r]), -1);
          now[rows.place[r]] = Number.isNaN(rows.fitness[r]) ? -1 : r;
          add(top(rows.cell[r]), 1);
        }
        x.push(g); coverage.push((100 * count) / run.cells); score.push(total);
      }
      return [x, coverage, score];
    };

    // A column's value of the cell's elite: what is known of the arrival at any time, the rest only of today's elites.
    story.columns = () => [
      { name: "fitness", of: (c) => story.fitness[c] },
      ...(story.known ? [{ name: "generation", of: (c) => (tenants[c] < 0 ? NaN : rows.generation[tenants[c]]) }] : []),
      ...(several ? [{ name: "emitter", labels: run.emitters, of: (c) => (tenants[c] < 0 ? NaN : rows.emitter[tenants[c]]) }] : []),
      ...columns.map((c) => ({
        name: c.name, labels: c.labels, of: (cell) => (tenants[cell] >= 0 && (c.name === "visits" || tenants[cell] === story.end[cell]) ? c.values[cell] : NaN),
      })),
    ];
    story.says = (row) => {
      const cell = rows.cell[row], told = columns.filter((c) => c.name === "visits" || story.final(row));
      return [...(made ? [["emitter", run.emitters[rows.emitter[row]] ?? "–"]] : []),
        ...told.map((c) => [c.name === "visits" ? evo.visits : c.name, c.labels ? c.labels[c.values[cell]] : evo.number(c.values[cell])])];
    };
    story.value = (name, cell) => columns.find((c) => c.name === name)?.values[cell] ?? NaN;

    story.take = (news) => { // from a server: what is new
      if (news.past.cell) {
        const more = decode(news.past, depth);
        for (const name of Object.keys(rows)) rows[name] = joined(rows[name], more[name]);
      }
      run.generations = news.generations;
      run.summary = news.summary;
      run.meta = news.meta;
      read(news.columns);
      last();
      story.end = tops(settled(Infinity));
    };
    Object.defineProperties(story, {
      time: { get: () => time }, generations: { get: () => generations }, count: { get: () => rows.cell.length },
    });
    read(run.columns);
    last();
    story.end = tops(settled(Infinity));
    story.go(Infinity);
    return story;
  };
})();
