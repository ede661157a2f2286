"use strict";
// What every page needs: arrays out of embed.py, elements, numbers as text, colours of the theme.
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

evo.short = (v) => { // to four digits, thousands and more by their letter
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const size = Math.abs(v);
  for (const [scale, letter, from] of [[1e9, "G"], [1e6, "M"], [1e3, "k", 1e4]]) if (size >= (from || scale)) return +(v / scale).toPrecision(4) + letter;
  return String(+v.toPrecision(4));
};

// A colour of the page's theme by name, as style.html has it.
evo.themed = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
evo.dark = matchMedia("(prefers-color-scheme: dark)");
evo.drawing = (tag, attributes, ...children) => { // an SVG element
  const node = document.createElementNS("http" + "://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
