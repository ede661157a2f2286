"use strict";
// Plays a scene in 3-D with WebGL 2: evo.player(host, scene) -> {toggle, seek, destroy}. The camera is camera.py's, the
// light is paint.py's. Lengths in metres, +z up, angles in degrees; matrices by column, as WebGL wants them.
const evo = {};

// An array of embed.py; what was quantised comes back as numbers (NaN where there was none).
evo.array = (x) => {
  const bytes = Uint8Array.from(atob(x.data), (c) => c.charCodeAt(0));
  const kinds = { f4: Float32Array, u2: Uint16Array, i4: Int32Array, u1: Uint8Array };
  const raw = new kinds[x.code](bytes.buffer);
  return x.step === undefined ? raw : Float32Array.from(raw, (v) => (v === 65535 ? NaN : x.low + x.step * v));
};

evo.element = (tag, properties, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

evo.number = (x) => {
  if (x === null || !Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  if (size && (size < 1e-3 || size >= 1e7)) return x.toExponential(2);
  return x.toFixed(Number.isInteger(x) ? 0 : size >= 1000 ? 1 : size >= 10 ? 2 : 3);
};

(() => {
  const FOCAL = 1 / Math.tan((16 * Math.PI) / 180);
  const LIGHT = [0.3, -0.45, 0.84];
  const SEGMENTS = 28;

  const SOLID = [
    `#version 300 es
    in vec3 p; in float side; in vec3 n;
    uniform mat3 turn; uniform mat4 view; uniform vec3 place, size; uniform float reach; uniform vec4 flatten_;
    out vec3 world, normal;
    void main() {
      world = place + turn * (p * size + vec3(0, 0, side * reach));
      normal = turn * n;
      if (flatten_.w > 0.) world = vec3(world.xy - flatten_.xy * max(world.z - flatten_.z, 0.), flatten_.z);
      gl_Position = view * vec4(world, 1);
    }`,
    `#version 300 es
    precision highp float;
    in vec3 world, normal;
    uniform vec3 color, eye, light; uniform vec4 flatten_; uniform float haze, shadow;
    out vec4 pixel;
    void main() {
      vec3 away = eye - world, n = normalize(normal), back = normalize(away);
      if (flatten_.w > 0.) { pixel = vec4(0, 0, 0, shadow * exp(-dot(away, away) / haze / haze)); return; }
      float glow = 0.62 + 0.16 * n.z + 0.46 * max(dot(n, light), 0.);
      glow *= 0.6 + 0.4 * clamp(dot(n, back) / 0.3, 0., 1.);
      float gloss = pow(max(dot(n, normalize(light + back)), 0.), 32.);
      pixel = vec4(min(color * glow + 0.15 * gloss, 1.), 1);
    }`,
  ];
  const GROUND = [
    `#version 300 es
    in vec2 corner; uniform mat4 view; uniform vec3 middle; uniform float reach; out vec3 world;
    void main() { world = middle + vec3(corner * reach, 0); gl_Position = view * vec4(world, 1); }`,
    `#version 300 es
    precision highp float;
    in vec3 world; uniform vec3 eye, tileA, tileB; uniform float tile, haze; out vec4 pixel;
    float square_(float x, float w) {
      float edge = 0.25 - abs(fract(x * 0.5 + 0.25) - 0.5), top = clamp(1.5 - w, 0., 1.);
      return clamp(edge * 4. / max(w, 1e-6), -top, top);
    }
    void main() {
      vec2 x = world.xy / tile, w = fwidth(x);
      float far = length(eye - world) / haze, a = exp(-far * far);
      pixel = vec4(mix(tileB, tileA, 0.5 + 0.5 * square_(x.x, w.x) * square_(x.y, w.y)) * a, a);
    }`,
  ];

  const program = (gl, [vertex, fragment]) => {
    const made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(made, i);
      at[name] = gl.getUniformLocation(made, name);
    }
    return { made, at };
  };

  // Vertices are x y z side nx ny nz; a vertex of a shape is (x y z) * size + (0, 0, side * reach).
  const lattice = (rows) => {
    const vertices = [], indices = [], wide = SEGMENTS + 1;
    for (const [radius, z, side, nr, nz] of rows)
      for (let j = 0; j < wide; j++) {
        const c = Math.cos((2 * Math.PI * j) / SEGMENTS), s = Math.sin((2 * Math.PI * j) / SEGMENTS);
        vertices.push(radius * c, radius * s, z, side, nr * c, nr * s, nz);
      }
    for (let i = 0; i + 1 < rows.length; i++)
      for (let j = 0, k = i * wide; j < SEGMENTS; j++, k++)
        indices.push(k, k + 1, k + wide, k + 1, k + wide + 1, k + wide);
    return [vertices, indices];
  };
  const capsule = () => {
    const rows = [], half = 8;
    for (const side of [-1, 1])
      for (let i = 0; i <= half; i++) {
        const a = (Math.PI / 2) * (i / half - (side < 0 ? 1 : 0));
        rows.push([Math.cos(a), Math.sin(a), side, Math.cos(a), Math.sin(a)]);
      }
    return lattice(rows);
  };
  const cylinder = () =>
    lattice([[0, -1, 0, 0, -1], [1, -1, 0, 0, -1], [1, -1, 0, 1, 0], [1, 1, 0, 1, 0], [1, 1, 0, 0, 1], [0, 1, 0, 0, 1]]);
  const box = () => {
    const vertices = [], indices = [];
    for (const axis of [0, 1, 2])
      for (const way of [-1, 1]) {
        const first = vertices.length / 7, n = [0, 0, 0];
        n[axis] = way;
        for (const [u, v] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
          const p = [0, 0, 0];
          p[axis] = way; p[(axis + 1) % 3] = u; p[(axis + 2) % 3] = v;
          vertices.push(...p, 0, ...n);
        }
        indices.push(first, first + 1, first + 2, first, first + 2, first + 3);
      }
    return [vertices, indices];
  };

  const upload = (gl, solid, [vertices, indices]) => {
    const held = gl.createVertexArray();
    gl.bindVertexArray(held);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(vertices), gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint16Array(indices), gl.STATIC_DRAW);
    for (const [name, count, offset] of [["p", 3, 0], ["side", 1, 12], ["n", 3, 16]]) {
      const at = gl.getAttribLocation(solid.made, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, count, gl.FLOAT, false, 28, offset);
    }
    return { held, count: indices.length };
  };

  const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16) / 255);
  const rotate = (m, v) => [0, 1, 2].map((i) => m[3 * i] * v[0] + m[3 * i + 1] * v[1] + m[3 * i + 2] * v[2]); // by row
  const times = (a, b) => a.map((_, k) => {
    const i = 3 * Math.floor(k / 3), j = k % 3;
    return a[i] * b[j] + a[i + 1] * b[j + 3] + a[i + 2] * b[j + 6];
  });
  const matrix = (w, x, y, z) => [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];

  // Where everything is at a time: between two kept steps, straight lines and short arcs.
  const film = (scene) => {
    const at = evo.array(scene.times), total = evo.array(scene.total), target = evo.array(scene.target);
    const position = evo.array(scene.position), rotation = evo.array(scene.rotation), m = scene.bodies;
    const moment = (time) => {
      let i = Math.max(at.findIndex((t) => t > time) - 1, 0);
      if (time >= at[at.length - 1]) i = at.length - 1;
      const j = Math.min(i + 1, at.length - 1), f = i === j ? 0 : (time - at[i]) / (at[j] - at[i]);
      const mix = (x, k, wide) => x[i * wide + k] * (1 - f) + x[j * wide + k] * f;
      const focus = [0, 1, 2].map((k) => mix(target, k, 3)), bodies = [];
      for (let b = 0; b < m; b++) {
        const q = [0, 1, 2, 3].map((k) => mix(rotation, 4 * b + k, 4 * m)), size = Math.hypot(...q);
        bodies.push({ place: focus.map((x, k) => x + mix(position, 3 * b + k, 3 * m)), turn: matrix(...q.map((x) => x / size)) });
      }
      return { focus, bodies, total: total[i] };
    };
    return { moment, end: at[at.length - 1] };
  };

  const viewing = (focus, [azimuth, elevation], distance, width, height) => {
    const a = (azimuth * Math.PI) / 180, e = (elevation * Math.PI) / 180;
    const back = [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)], right = [-Math.sin(a), Math.cos(a), 0];
    const up = [-back[2] * right[1], back[2] * right[0], back[0] * right[1] - back[1] * right[0]];
    const eye = focus.map((x, k) => x + distance * back[k]), dot = (x, y) => x[0] * y[0] + x[1] * y[1] + x[2] * y[2];
    const side = FOCAL * Math.min(height, 0.75 * width), fx = side / width, fy = side / height; // what fits 4:3 fits
    const near = 0.05 * distance, far = 80 * distance, A = (far + near) / (near - far), B = (2 * far * near) / (near - far);
    const view = [];
    for (let k = 0; k < 3; k++) view.push(fx * right[k], fy * up[k], A * back[k], -back[k]);
    view.push(-fx * dot(right, eye), -fy * dot(up, eye), B - A * dot(back, eye), dot(back, eye));
    return { eye, view, right, up };
  };

  const renderer = (canvas, scene) => {
    const gl = canvas.getContext("webgl2", { antialias: true, stencil: true, alpha: true, powerPreference: "low-power" });
    if (!gl) return null;
    const solid = program(gl, SOLID), ground = program(gl, GROUND);
    const meshes = { capsule: upload(gl, solid, capsule()), box: upload(gl, solid, box()), cylinder: upload(gl, solid, cylinder()) };
    meshes.sphere = meshes.capsule;
    const floor = gl.createVertexArray();
    gl.bindVertexArray(floor);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(gl.getAttribLocation(ground.made, "corner"));
    gl.vertexAttribPointer(gl.getAttribLocation(ground.made, "corner"), 2, gl.FLOAT, false, 0, 0);
    const shapes = scene.shapes.filter((s) => s.kind !== "plane").map((s) => ({
      ...s, paint: rgb(s.color), mesh: meshes[s.kind],
      scale: s.kind === "box" ? s.size.slice(0, 3) : [s.size[0], s.size[0], s.kind === "cylinder" ? s.size[1] : s.size[0]],
      reach: s.kind === "capsule" ? s.size[1] : 0,
    }));
    const length = Math.hypot(...LIGHT), power = 10 ** Math.floor(Math.log10(scene.distance / 5));
    const tile = power * Math.max(...[1, 2, 5].filter((x) => x * power <= (scene.distance / 5) * 1.0001));

    const draw = (moment, camera, distance, theme) => {
      const haze = Math.max(22 * tile, 4.5 * distance);
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.disable(gl.DEPTH_TEST);
      if (scene.floor !== null) {
        gl.useProgram(ground.made);
        gl.bindVertexArray(floor);
        gl.uniformMatrix4fv(ground.at.view, false, camera.view);
        gl.uniform3f(ground.at.middle, moment.focus[0], moment.focus[1], scene.floor);
        gl.uniform3fv(ground.at.eye, camera.eye);
        gl.uniform3fv(ground.at.tileA, theme.tileA);
        gl.uniform3fv(ground.at.tileB, theme.tileB);
        gl.uniform1f(ground.at.reach, 3 * haze);
        gl.uniform1f(ground.at.tile, tile);
        gl.uniform1f(ground.at.haze, haze);
        gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      }
      gl.useProgram(solid.made);
      gl.uniformMatrix4fv(solid.at.view, false, camera.view);
      gl.uniform3fv(solid.at.eye, camera.eye);
      gl.uniform3fv(solid.at.light, LIGHT.map((x) => x / length));
      gl.uniform1f(solid.at.haze, haze);
      gl.uniform1f(solid.at.shadow, theme.shadow);
      const all = () => {
        for (const s of shapes) {
          const body = moment.bodies[s.body], turn = body ? times(body.turn, s.turn) : s.turn;
          const place = body ? rotate(body.turn, s.place).map((x, k) => x + body.place[k]) : s.place;
          gl.bindVertexArray(s.mesh.held);
          gl.uniformMatrix3fv(solid.at.turn, true, turn);
          gl.uniform3fv(solid.at.place, place);
          gl.uniform3fv(solid.at.size, s.scale);
          gl.uniform1f(solid.at.reach, s.reach);
          gl.uniform3fv(solid.at.color, s.paint);
          gl.drawElements(gl.TRIANGLES, s.mesh.count, gl.UNSIGNED_SHORT, 0);
        }
      };
      if (scene.floor !== null && camera.eye[2] > scene.floor) {
        gl.enable(gl.STENCIL_TEST); // a pixel is shaded once, however many shapes shade it
        gl.stencilFunc(gl.EQUAL, 0, 255);
        gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
        gl.uniform4f(solid.at.flatten_, LIGHT[0] / LIGHT[2], LIGHT[1] / LIGHT[2], scene.floor, 1);
        all();
        gl.disable(gl.STENCIL_TEST);
      }
      gl.enable(gl.DEPTH_TEST);
      gl.uniform4f(solid.at.flatten_, 0, 0, 0, 0);
      all();
    };
    return { draw, lose: () => gl.getExtension("WEBGL_lose_context")?.loseContext() };
  };

  evo.player = (host, scene) => {
    const canvas = evo.element("canvas", { className: "stage", tabIndex: 0, ariaLabel: "Episode: " + scene.title });
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
    more.append(reset, evo.element("span", { className: "hint", textContent: "drag to orbit, wheel or pinch to zoom" }));
    host.replaceChildren(canvas, bar, more);
    const painter = renderer(canvas, scene);
    if (!painter) {
      host.replaceChildren(evo.element("p", { className: "note", textContent: "This browser has no WebGL 2, which plays the episode." }));
      return { toggle() {}, seek() {}, destroy() {} };
    }
    const reel = film(scene), dark = matchMedia("(prefers-color-scheme: dark)");
    let time = 0, playing = false, before = 0, request = 0, angles = [...scene.camera], zoom = 1, pan = null, theme = null;
    if (reel.end === 0) for (const node of [button, slider, speed.parentNode]) node.hidden = true;
    slider.max = reel.end;

    const draw = () => {
      const scale = Math.min(devicePixelRatio || 1, 2);
      const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      const moment = reel.moment(time), distance = scene.distance * zoom;
      if (pan) moment.focus = pan;
      painter.draw(moment, viewing(moment.focus, angles, distance, width, height), distance, theme);
      readout.textContent = reel.end ? time.toFixed(2) + " s · return " + evo.number(moment.total) : "fitness " + evo.number(moment.total);
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
      const style = getComputedStyle(host), get = (name) => style.getPropertyValue(name).trim();
      theme = { tileA: rgb(get("--tile-a")), tileB: rgb(get("--tile-b")), shadow: +get("--shadow") };
      soon();
    };
    const turn = (dx, dy) => {
      angles = [angles[0] - 0.4 * dx, Math.min(Math.max(angles[1] + 0.4 * dy, scene.floor === null ? -89 : 1), 90)];
      soon();
    };
    const nearer = (factor) => { zoom = Math.min(Math.max(zoom * factor, 0.15), 8); soon(); };

    const fingers = new Map();
    const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
    canvas.onpointerdown = (e) => { fingers.set(e.pointerId, [e.clientX, e.clientY]); canvas.setPointerCapture(e.pointerId); };
    canvas.onpointermove = (e) => {
      const last = fingers.get(e.pointerId);
      if (!last) return;
      const wide = fingers.size === 2 ? spread() : 0;
      fingers.set(e.pointerId, [e.clientX, e.clientY]);
      if (fingers.size === 1) turn(e.clientX - last[0], e.clientY - last[1]);
      else if (wide) nearer(wide / Math.max(spread(), 1));
    };
    canvas.onpointerup = canvas.onpointercancel = (e) => fingers.delete(e.pointerId);
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); nearer(Math.exp(0.0015 * e.deltaY)); }, { passive: false });
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
    dark.addEventListener("change", restyle);
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
        dark.removeEventListener("change", restyle);
        painter.lose();
      },
    };
  };
})();
