"use strict";
// Learning curves by uPlot: a chart a panel, with one cursor; bands where there are several seeds.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent), get = (id) => document.getElementById(id);
  let charts = [], x = data.x;
  get("title").textContent = data.title;
  get("said").textContent = data.said;
  get("x").append(...data.ways.map(([value, textContent]) => evo.element("option", { value, textContent, selected: value === x })));

  if (data.panels.length === 4) get("panels").style.gridTemplateColumns = "repeat(auto-fit, minmax(min(100%, 480px), 1fr))"; // two by two

  const whole = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((k) => k * 10 ** power)).flat(); // what ticks of counts are apart
  const lighter = (hue) => "#" + [1, 3, 5].map((i) => Math.round(parseInt(hue.slice(i, i + 2), 16) * 0.6 + 255 * 0.4).toString(16).padStart(2, "0")).join("");
  const table = (panel) => { // aligned columns, and what uPlot is to do with each
    const tables = [], series = [{ label: data.ways.find(([way]) => way === x)[1], value: (_, v) => evo.short(v) }], bands = [];
    for (const line of panel.lines) {
      const points = line.data[x], hue = evo.dark.matches ? lighter(line.color) : line.color;
      if (!points) continue;
      const wide = points.length > 2 && line.band;
      tables.push(wide ? points : points.slice(0, 2));
      const at = series.length, thin = { stroke: "transparent", width: 0, points: { show: false }, label: "", value: () => "" };
      series.push({ label: line.label, stroke: hue, width: line.dash ? 1.3 : 2, dash: line.dash || undefined, points: { show: points[0].length < 3 }, spanGaps: true, value: (_, v) => evo.short(v) });
      if (wide) {
        series.push({ ...thin, spanGaps: true, band: true }, { ...thin, spanGaps: true, band: true });
        bands.push({ series: [at + 2, at + 1], fill: hue + "2e" });
      }
    }
    return { columns: uPlot.join(tables), series, bands };
  };
  const draw = () => {
    charts.forEach((chart) => chart.destroy());
    const soft = evo.themed("soft"), line = evo.themed("line"), sync = uPlot.sync("x");
    const hosts = data.panels.map((panel) => evo.element("section", { className: "card" }, evo.element("h2", { textContent: panel.name })));
    get("panels").replaceChildren(...hosts); // all of them first: only then is their width known
    charts = data.panels.map((panel, i) => {
      const host = hosts[i], { columns, series, bands } = table(panel);
      if (!columns) { host.append(evo.element("p", { className: "note", textContent: "Nothing to draw." })); return { destroy() {}, setSize() {} }; }
      const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif", values: (_, all) => all.map(evo.short) };
      const chart = new uPlot({
        legend: { markers: { dash: (_, i) => (series[i].dash ? "dashed" : "solid") } },
        width: host.clientWidth - 24, height: 300, series, bands, scales: { x: { time: false, range: (_, a, b) => (a === b ? [a - 0.5, b + 0.5] : [a, b]) } }, cursor: { sync: { key: sync.key } },
        axes: [{ ...axis, incrs: x === "seconds" ? undefined : whole }, { ...axis, size: 62 }],
      }, columns, host);
      series.forEach((one, i) => { if (one.band) chart.root.querySelectorAll(".u-series")[i].hidden = true; });
      return chart;
    });
  };
  const fit = () => charts.forEach((chart) => chart.root && chart.setSize({ width: chart.root.parentNode.clientWidth - 24, height: 300 }));
  get("x").onchange = (e) => { x = e.target.value; draw(); };
  evo.dark.addEventListener("change", draw);
  addEventListener("resize", fit);
  draw();
})();
