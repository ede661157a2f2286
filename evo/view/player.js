"use strict";
// Plays an episode (embed.py): evo.player(host, scene) -> {toggle, seek, destroy}. What draws it is solid.js for bodies,
// and for films `evo.pictures` below.
(() => {
  // A film: pictures on sheets, each shown until the next one's time.
  evo.pictures = (canvas, scene) => {
    const pen = canvas.getContext("2d"), at = evo.array(scene.times), total = evo.array(scene.total), [wide, tall] = scene.frame;
    const each = scene.across ** 2;
    const sheets = scene.sheets.map((source) => evo.element("img", { src: source }));
    let lost = false;
    const moment = (time) => {
      let i = at.findIndex((t) => t > time + 1e-6) - 1;
      if (i < 0) i = time >= at[at.length - 1] - 1e-6 ? at.length - 1 : 0;
      return { index: i, total: total[i] };
    };
    const draw = ({ index }) => {
      const sheet = sheets[Math.floor(index / each)], i = index % each, scale = Math.min(canvas.width / wide, canvas.height / tall);
      if (!sheet.complete) { sheet.onload = () => lost || draw({ index }); return; }
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.imageSmoothingEnabled = scale < 2;
      pen.drawImage(sheet, (i % scene.across) * wide, Math.floor(i / scene.across) * tall, wide, tall,
        (canvas.width - scale * wide) / 2, (canvas.height - scale * tall) / 2, scale * wide, scale * tall);
    };
    return { moment, end: at[at.length - 1], draw, lose() { lost = true; } };
  };
  const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
  evo.player = (host, scene) => {
    const canvas = evo.element("canvas", { className: "stage", tabIndex: 0, role: "img", ariaLabel: "Episode: " + scene.title });
    const button = evo.element("button", { type: "button", className: "play", title: "Play or pause (space)" });
    const slider = evo.element("input", { type: "range", min: 0, step: "any", value: 0, ariaLabel: "Time" });
    const speeds = [0.1, 0.25, 0.5, 1, 2, 4].map((x) => evo.element("option", { value: x, textContent: x + "×", selected: x === 1 }));
    const speed = evo.element("select", { ariaLabel: "Speed" }, ...speeds);
    const follow = evo.element("input", { type: "checkbox", checked: true });
    const reset = evo.element("button", { type: "button", textContent: "Reset view" });
    const readout = evo.element("output", { className: "readout" });
    const bar = evo.element("div", { className: "bar" }, button, slider, readout);
    const more = evo.element("div", { className: "bar more" }, evo.element("label", {}, "Speed ", speed));
    if (scene.follows) more.append(evo.element("label", {}, follow, " Follow"));
    const flat = !!scene.sheets;
    if (!flat) more.append(reset, evo.element("span", { className: "hint", textContent: "drag to orbit, wheel or pinch to zoom" }));
    host.replaceChildren(canvas, bar, more);
    const painter = flat ? evo.pictures(canvas, scene) : evo.bodies(canvas, scene);
    if (!painter) {
      host.replaceChildren(evo.element("p", { className: "note", textContent: "This browser has no WebGL 2, which plays the episode." }));
      return { toggle() {}, seek() {}, destroy() {} };
    }
    const reel = painter;
    let time = 0, playing = false, before = 0, request = 0, angles = [...(scene.camera || [0, 0])], zoom = 1, pan = null, theme = null;
    if (reel.end === 0) { // one picture
      for (const node of [button, slider, more]) node.hidden = true;
      if (!flat) bar.prepend(reset);
      bar.classList.add("still");
    }
    slider.max = reel.end;

    const draw = () => {
      const scale = Math.min(devicePixelRatio || 1, 2);
      const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      const moment = reel.moment(time);
      painter.draw(moment, { angles, zoom, pan }, theme);
      const said = scene.told === false ? [] : [(reel.end ? "return " : "fitness ") + evo.number(moment.total)];
      readout.textContent = [...(reel.end ? [time.toFixed(2) + " s"] : []), ...said].join(" · ");
      slider.value = time;
      canvas.dataset.time = time.toFixed(3);
    };
    const step = (now) => {
      request = 0;
      if (playing) {
        time += (Math.min(now - before, 100) / 1000) * speed.value;
        if (time > reel.end) time = 0;
        before = now;
      }
      draw();
      if (playing) soon();
    };
    const soon = () => { request ||= requestAnimationFrame(step); };
    const play = (on) => {
      playing = on && reel.end > 0;
      button.textContent = playing ? "❚❚" : "▶";
      button.ariaLabel = playing ? "Pause" : "Play";
      before = performance.now();
      soon();
    };
    const seek = (to) => { time = Math.min(Math.max(to, 0), reel.end); soon(); };
    const restyle = () => {
      theme = { tileA: rgb(evo.themed("tile-a")), tileB: rgb(evo.themed("tile-b")), shadow: +evo.themed("shadow") };
      soon();
    };
    const turn = (dx, dy) => {
      angles = [angles[0] - 0.4 * dx, Math.min(Math.max(angles[1] + 0.4 * dy, scene.floor === null ? -89 : 1), 90)];
      soon();
    };
    const nearer = (factor) => { zoom = Math.min(Math.max(zoom * factor, 0.15), 8); soon(); };

    const fingers = new Map();
    const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
    canvas.onpointerdown = (e) => {
      if (flat) return play(!playing);
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      canvas.setPointerCapture(e.pointerId);
    };
    canvas.onpointermove = (e) => {
      const last = fingers.get(e.pointerId);
      if (!last) return;
      const wide = fingers.size === 2 ? spread() : 0;
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      if (fingers.size === 1) turn(e.clientX - last[0], e.clientY - last[1]);
      else if (wide) nearer(wide / Math.max(spread(), 1));
    };
    canvas.onpointerup = canvas.onpointercancel = (e) => fingers.delete(e.pointerId);
    canvas.addEventListener("wheel", (e) => { if (flat) return; e.preventDefault(); nearer(Math.exp(0.0015 * e.deltaY)); }, { passive: false });
    host.onkeydown = (e) => {
      if (e.target !== canvas) return;
      const keys = { " ": () => play(!playing), ArrowLeft: () => seek(time - 0.1), ArrowRight: () => seek(time + 0.1),
        ArrowUp: () => turn(0, 12), ArrowDown: () => turn(0, -12), "+": () => nearer(0.85), "-": () => nearer(1.18) };
      if (!keys[e.key]) return;
      e.preventDefault();
      e.stopPropagation();
      keys[e.key]();
    };
    button.onclick = () => play(!playing);
    slider.oninput = () => seek(+slider.value);
    follow.onchange = () => { pan = follow.checked ? null : reel.moment(time).focus; soon(); };
    reset.onclick = () => { angles = [...scene.camera]; zoom = 1; soon(); };
    const watch = new ResizeObserver(soon);
    watch.observe(canvas);
    evo.dark.addEventListener("change", restyle);
    restyle();
    play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    return {
      toggle: () => play(!playing),
      seek,
      destroy() {
        playing = false;
        cancelAnimationFrame(request);
        request = -1;
        watch.disconnect();
        evo.dark.removeEventListener("change", restyle);
        painter.lose();
      },
    };
  };
})();
