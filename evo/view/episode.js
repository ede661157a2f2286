"use strict";
// The page of one episode or several: which of them plays.
(() => {
  const { episodes, title } = JSON.parse(document.getElementById("data").textContent), get = (id) => document.getElementById(id);
  let player = null;
  const show = (i) => {
    player?.destroy();
    get("title").textContent = episodes[i].title || title;
    player = evo.player(get("player"), episodes[i]);
  };
  get("which").append(...episodes.map((one, i) => evo.element("option", { value: i, textContent: `${i + 1}: ${one.title}` })));
  get("which").onchange = (e) => show(+e.target.value);
  get("several").hidden = episodes.length < 2;
  show(0);
})();
