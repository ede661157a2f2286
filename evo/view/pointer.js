"use strict";
// The pointer on a map: evo.pointer(canvas, map, {hover, choose}): hover tells, a click chooses, a drag pans, wheel and
// pinch zoom. `hover` gets a cell or -1 and where the pointer is, `choose` a cell.
evo.pointer = (canvas, map, { hover, choose }) => {
  const fingers = new Map();
  let moved = 0;
  const local = (e) => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.onpointerdown = (e) => { fingers.set(e.pointerId, local(e)); moved = 0; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = (e) => {
    const at = local(e), last = fingers.get(e.pointerId);
    if (!last) return hover(map.at(...at), ...at);
    const wide = fingers.size === 2 ? spread() : 0;
    fingers.set(e.pointerId, at);
    moved += Math.hypot(at[0] - last[0], at[1] - last[1]);
    if (fingers.size === 1 && moved > 4) { hover(-1); map.pan(at[0] - last[0], at[1] - last[1]); }
    else if (wide) map.zoom(spread() / Math.max(wide, 1), ...at);
  };
  canvas.onpointerup = (e) => {
    fingers.delete(e.pointerId);
    if (moved <= 4) choose(map.at(...local(e)));
  };
  canvas.onpointercancel = (e) => fingers.delete(e.pointerId);
  canvas.onpointerleave = () => hover(-1);
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); map.zoom(Math.exp(-0.0015 * e.deltaY), ...local(e)); }, { passive: false });
  canvas.ondblclick = () => map.whole();
};
