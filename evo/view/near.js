"use strict";
// Which mark is nearest to a place: evo.near(marks) -> (x, y, [sx, sy], most, wanted) -> mark or null. Distances are
// sx, sy times those of the marks' middles, below `most`; only marks that are `wanted` count. Marks lie in a square of
// buckets, which are searched ring by ring around the place: 10,000 marks cost what a few do.
evo.near = (marks) => {
  const n = Math.max(1, Math.round(Math.sqrt(marks.length / 4))), buckets = Array.from({ length: n * n }, () => []);
  const part = (x) => Math.min(Math.max(Math.floor(x * n), 0), n - 1);
  for (const mark of marks) buckets[part(mark.middle[1]) * n + part(mark.middle[0])].push(mark);
  return (x, y, [sx, sy], most, wanted) => {
    const i = part(x), j = part(y);
    let best = null, least = most * most;
    const look = (column, row) => {
      if (column < 0 || row < 0 || column >= n || row >= n) return;
      for (const mark of buckets[row * n + column]) {
        const far = ((mark.middle[0] - x) * sx) ** 2 + ((mark.middle[1] - y) * sy) ** 2;
        if (far < least && wanted(mark)) [best, least] = [mark, far];
      }
    };
    for (let ring = 0; ring < n && (Math.max(ring - 1, 0) / n * Math.min(sx, sy)) ** 2 < least; ring++) {
      for (let k = -ring; k <= ring; k++) {
        look(i + k, j - ring);
        if (ring) look(i + k, j + ring);
        if (Math.abs(k) < ring) { look(i - ring, j + k); look(i + ring, j + k); }
      }
    }
    return best;
  };
};
