"use strict";
// A scene (embed.py) in 3-D with WebGL 2: evo.bodies(canvas, scene) -> {end, total, focus, draw, lose}, or null without
// WebGL. The camera is camera.py's, the light is paint.py's. Lengths in metres, +z up, angles in degrees; matrices by
// column, as WebGL wants them.
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

  evo.bodies = (canvas, scene) => {
    const reel = film(scene);
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

    const draw = (moment, { angles, zoom, pan }, theme) => {
      const distance = scene.distance * zoom, focus = pan || moment.focus;
      const camera = viewing(focus, angles, distance, canvas.width, canvas.height);
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
        gl.uniform3f(ground.at.middle, focus[0], focus[1], scene.floor);
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
    return { ...reel, draw, lose: () => gl.getExtension("WEBGL_lose_context")?.loseContext() };
  };
})();
