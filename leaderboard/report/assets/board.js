// The leaderboard: its views, its subsets, and sorting by a column.
"use strict";

(() => {
  const { load, make, options, text } = wronglung;
  const VALUE = 0, DELTA = 3;  // where a cell's value and its change begin, each followed by the interval's ends

  document.querySelectorAll("[data-board]").forEach(async (section) => {
    const name = section.dataset.board;
    const board = await load(`${name}-board`);
    const table = section.querySelector("table.board");
    const control = (role) => section.querySelector(`[data-role="${role}"]`);
    const ranked = board.models.some(({ rank, role }) => rank && role === "model");
    const state = { subset: board.subset, view: 0, column: 0, descending: true };
    let cells = await load(`${name}-s${state.subset}`);

    options(control("subset"), board.subsets.map(({ label }) => label), state.subset);
    listViews(control("view"), board.views);
    section.querySelector("form").hidden = false;
    section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    control("subset").addEventListener("change", async (event) => {
      state.subset = Number(event.target.value);
      cells = await load(`${name}-s${state.subset}`);
      draw();
    });
    control("view").addEventListener("change", (event) => {
      Object.assign(state, { view: Number(event.target.value), column: 0, descending: true });
      draw();
    });
    control("intervals").addEventListener("change", (event) => {
      table.classList.toggle("without-intervals", !event.target.checked);
    });
    draw();

    function cell(model, [task, metric]) {
      return cells[model][task][metric];
    }

    function sortValue(model) {
      if (state.column < 0) return board.models[model].label;
      const column = board.views[state.view].columns[state.column];
      const found = column && cell(model, column);
      return found ? found[column[2] ? DELTA : VALUE] : null;
    }

    function compare(a, b) {
      const [one, other] = [sortValue(a), sortValue(b)];
      // What has no value comes last, whichever the direction.
      if (one === null || other === null) return (one === null) - (other === null) || a - b;
      const order = typeof one === "string" ? one.localeCompare(other) : one - other;
      return (state.descending ? -order : order) || a - b;
    }

    function draw() {
      const view = board.views[state.view];
      const { label, n, patients, unit } = board.subsets[state.subset];
      const which = board.models.map((_, at) => at).sort(compare);
      const runs = which.filter((at) => !board.models[at].published);
      const published = which.filter((at) => board.models[at].published && view.columns.some((one) => cell(at, one)));
      const parts = [head(view), make("tbody", {}, ...runs.map((at) => row(at, view)))];
      if (published.length) {
        const title = make("tr", {}, make("th", { scope: "colgroup", colSpan: view.columns.length + 1 + ranked }, "As published, not rerun, on other data"));
        parts.push(make("tbody", { className: "published" }, title, ...published.map((at) => row(at, view))));
      }
      const size = n === null ? "" : `: ${n.toLocaleString("en")} instances, ${patients.toLocaleString("en")} ${unit}`;
      table.replaceChildren(make("caption", {}, `${view.label} on ${label}${size}`), ...parts);
      const sorted = state.column < 0 ? "name" : title(view, view.columns[state.column]);
      control("status").textContent = `${runs.length} runs, sorted by ${sorted}, ${state.descending ? "descending" : "ascending"}`;
    }

    function title(view, column) {
      let first = 0;
      for (const [span, count] of view.spans) {
        first += count;
        if (view.columns.indexOf(column) < first) return span === "Value" ? column[3] : `${span}, ${column[3]}`;
      }
      return "";
    }

    function head(view) {
      const spans = view.spans.map(([label, count]) => make("th", { scope: "colgroup", colSpan: count }, label));
      const columns = view.columns.map((column, at) => heading(column[3], at, title(view, column)));
      const model = heading("Model", -1, "Model");
      model.rowSpan = 2;
      const rank = ranked ? make("th", { scope: "col", rowSpan: 2 }, "Rank") : null;
      return make("thead", {}, make("tr", {}, model, rank, ...spans), make("tr", {}, ...columns));
    }

    // Perturbations have a column under each of several metrics: whoever hears the name must hear which.
    function heading(label, at, name) {
      const sorted = state.column === at;
      const mark = make("span", { "aria-hidden": "true" }, sorted ? (state.descending ? " ↓" : " ↑") : " ↕");
      const button = make("button", { type: "button", className: "sort", "aria-label": name }, label, mark);
      button.addEventListener("click", () => {
        state.descending = sorted ? !state.descending : at >= 0;
        state.column = at;
        draw();
        // The heading was made anew; whoever sorts by keyboard stays on it.
        table.querySelectorAll("button.sort")[at + 1].focus();
      });
      return make("th", { scope: "col", "aria-sort": sorted ? (state.descending ? "descending" : "ascending") : "none" }, button);
    }

    function row(at, view) {
      const model = board.models[at];
      const named = model.page ? make("a", { href: model.page }, model.label) : `${model.label} †`;
      const tags = [
        model.role === "model" ? null : make("span", { className: "tag" }, model.role),
        model.missing.length ? make("span", { className: "tag warn", title: `no ${model.missing.join(", ")}` }, "incomplete") : null,
      ];
      const figures = view.columns.map((column) => figure(at, column));
      return make("tr", { className: model.role }, make("th", { scope: "row" }, named, " ", ...tags), ranked ? make("td", {}, model.rank) : null, ...figures);
    }

    function figure(at, column) {
      const [, metric, delta] = column;
      const found = cell(at, column);
      const [value, low, high] = found ? found.slice(delta ? DELTA : VALUE) : [null, null, null];
      const shown = make("td", {}, text(value, board.units[metric], delta));
      if (low !== null && high !== null) {
        const ends = [low, high].map((end) => text(end, board.units[metric], delta));
        shown.append(" ", make("span", { className: "interval" }, `[${ends.join(", ")}]`));
      }
      return shown;
    }
  });

  function listViews(select, views) {
    const families = new Map();
    views.forEach((view, at) => {
      if (!families.has(view.family)) families.set(view.family, []);
      families.get(view.family).push(new Option(view.label, String(at)));
    });
    for (const [family, entries] of families) {
      select.append(...(family ? [make("optgroup", { label: family }, ...entries)] : entries));
    }
  }
})();
