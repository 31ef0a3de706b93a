// SPDX-License-Identifier: Apache-2.0
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byText = new Intl.Collator("en", { numeric: true });

  // Tables: a button in each head sorts by data-key, or by the text.
  const value = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent.trim();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // what is not known comes last
    return byText.compare(a, b);
  };
  const sort = (table, head, column) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column)));
    body.append(...(down ? rows.reverse() : rows));
  };
  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.classList.contains("nosort")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.append(button);
    });
  }

  // Curves: the nearest point is told; arrow keys go along a curve and from one to the next.
  for (const svg of all(".chart svg")) {
    const readout = svg.parentNode.querySelector(".readout");
    const mark = svg.querySelector(".at");
    const lines = all(".line", svg).map((path) => ({ path, points: JSON.parse(path.dataset.points) }));
    let at = [0, -1];
    const visible = () => lines.filter((line) => !line.path.hasAttribute("hidden"));
    const show = (line, index) => {
      const [x, y, text] = line.points[index];
      at = [lines.indexOf(line), index];
      mark.setAttribute("cx", x);
      mark.setAttribute("cy", y);
      lines.forEach((other) => other.path.classList.toggle("near", other === line));
      readout.textContent = `${line.path.dataset.label}, ${text}`;
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let best = null;
      for (const line of visible()) {
        line.points.forEach(([x, y], index) => {
          const distance = Math.hypot(x - px, y - py);
          if (!best || distance < best[0]) best = [distance, line, index];
        });
      }
      if (best) show(best[1], best[2]);
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const shown = visible();
      if (!step || !shown.length) return;
      event.preventDefault();
      const place = Math.max(0, shown.indexOf(lines[at[0]]));
      const line = shown[(place + step[0] + shown.length) % shown.length];
      show(line, Math.min(line.points.length - 1, Math.max(0, at[1] + step[1])));
    });
  }
  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      all(`.line[data-system="${button.dataset.system}"]`).forEach((x) => x.toggleAttribute("hidden", !on));
    });
  }

  // Utterances: order, search, sound.
  const cards = document.getElementById("cards");
  const order = document.getElementById("order");
  const find = document.getElementById("find");
  if (cards) {
    const reorder = () => {
      const key = order.value;
      const sign = key === "confidence" ? 1 : -1;
      const sorted = all(".card", cards).sort((a, b) =>
        (key === "name" ? 0 : sign * (a.dataset[key] - b.dataset[key])) ||
        byText.compare(a.dataset.name, b.dataset.name));
      cards.append(...sorted);
    };
    order.addEventListener("change", reorder);
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      let left = 0;
      for (const card of all(".card", cards)) {
        const words = all(".words", card).map((x) => x.textContent).join(" ");
        const has = `${card.dataset.name} ${words}`.toLowerCase().includes(wanted);
        card.hidden = !has;
        left += has;
      }
      document.getElementById("found").textContent = wanted ? `${left} shown` : "";
    });
  }
  for (const card of all(".card")) {
    const audio = card.querySelector("audio");
    const view = card.querySelector("svg.view");
    if (!audio || !view) continue;
    const head = view.querySelector(".head");
    const length = Number(view.dataset.length);
    const width = view.viewBox.baseVal.width;
    let end = Infinity;
    const play = (start, stop) => {
      all("audio").forEach((other) => other !== audio && other.pause());
      audio.currentTime = start;
      end = stop;
      audio.play();
    };
    const follow = () => {
      if (audio.currentTime >= end) audio.pause();
      const x = (audio.currentTime / length) * width;
      head.setAttribute("x1", x);
      head.setAttribute("x2", x);
      head.classList.add("on");
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.addEventListener("play", follow);
    audio.addEventListener("seeked", follow);
    audio.addEventListener("pause", () => { end = Infinity; });
    for (const word of all(".word", view)) {
      const hear = () => play(Number(word.dataset.start), Number(word.dataset.end));
      word.addEventListener("click", (event) => { event.stopPropagation(); hear(); });
      word.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); hear(); }
      });
    }
    view.addEventListener("click", (event) => {
      const box = view.getBoundingClientRect();
      play(((event.clientX - box.left) / box.width) * length, Infinity);
    });
  }
})();
