// The gallery: which instances are shown, in which order, and their maps drawn over the films.
"use strict";

(async () => {
  const { load, make, options, text } = wronglung;
  const PAGE = 24, SMALL = 176, LARGE = 416;  // cards a page; longer side of a drawn map in pixels
  const SAME = 0, REMOVED = 1;  // and added
  const HEADINGS = { original: "True", swap_left_right: "Swapped", random_sentences: "Random" };
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);

  const name = document.body.dataset.gallery;
  const gallery = await load(`${name}-gallery`);
  const instances = await load(`${name}-instances`);
  const texts = instances.map(({ id, sentences }) => `${id}\n${sentences[0].map(([, part]) => part).join("")}`.toLowerCase());
  const column = Object.fromEntries(gallery.tasks.map((task, index) => [task, index]));
  const orders = [
    ["Δ under the swap, what fell most first", (one) => change(one, "swap_left_right")],
    ["Δ under the swap, what rose most first", (one) => -change(one, "swap_left_right")],
    ["Δ of a random sentence, what fell most first", (one) => change(one, "random_sentences")],
    [`${gallery.label} of the true sentence, best first`, (one) => -number(one, "original")],
    [`${gallery.label} of the true sentence, worst first`, (one) => number(one, "original")],
    ["as in the dataset", (one) => one],
  ];
  const state = { model: 0, subset: 0, order: 0, page: 0, found: [], open: null };
  let values = null;  // of the chosen model

  function number(one, task) {
    const value = values.values[one][column[task]];
    return value === undefined || value === null ? NaN : value;
  }

  function change(one, task) {
    return number(one, task) - number(one, "original");
  }

  async function start() {
    const asked = new URLSearchParams(location.hash.slice(1)).get("model");
    state.model = Math.max(0, gallery.models.findIndex(({ data }) => data === asked), gallery.first * (asked === null));
    options(at("model"), gallery.models.map(({ label, role }) => (role === "model" ? label : `${label} (${role})`)), state.model);
    state.subset = gallery.subsets.indexOf(gallery.subset);
    options(at("subset"), gallery.subsets, state.subset);
    options(at("order"), orders.map(([label]) => label));
    at("controls").hidden = at("legend").hidden = false;
    at("sides").hidden = instances.every(({ boxes }) => boxes.every(([label]) => sideOf(label) === "other"));
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("controls").addEventListener("input", () => {
      Object.assign(state, { subset: Number(at("subset").value), order: Number(at("order").value) });
      choose(Number(at("model").value));
    });
    for (const button of document.querySelectorAll(".pager button")) {
      button.addEventListener("click", () => turn(state.page + Number(button.dataset.step)));
    }
    at("earlier").addEventListener("click", () => go(-1));
    at("later").addEventListener("click", () => go(1));
    at("close").addEventListener("click", () => at("viewer").close());
    at("viewer").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && !event.altKey && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        go(step);
      }
    });
    at("viewer").addEventListener("close", closed);
    drawLegend(at("legend").querySelector("canvas"));
    await choose(state.model);
  }

  // Show a model's instances as the controls say, from the first page on.
  async function choose(model) {
    const loaded = await load(`${gallery.models[model].data}-values`);
    if (Number(at("model").value) !== model) return;  // another was chosen meanwhile
    Object.assign(state, { model });
    values = loaded;
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [, key] = orders[state.order];
    const keys = instances.map((_, one) => key(one));
    state.found = instances
      .map((_, one) => one)
      .filter((one) => instances[one].subsets.includes(state.subset))
      .filter((one) => !at("changed").checked || instances[one].changed[column.swap_left_right])
      .filter((one) => words.every((word) => texts[one].includes(word)))
      // What has no figure comes last.
      .sort((a, b) => isNaN(keys[a]) - isNaN(keys[b]) || keys[a] - keys[b] || a - b);
    turn(0, false);
  }

  function turn(page, moves = true) {
    const pages = Math.max(1, Math.ceil(state.found.length / PAGE));
    state.page = Math.min(Math.max(page, 0), pages - 1);
    at("cards").start = state.page * PAGE + 1;
    watcher.disconnect();
    at("cards").replaceChildren(...state.found.slice(state.page * PAGE, (state.page + 1) * PAGE).map(card));
    for (const one of at("cards").children) watcher.observe(one);
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = pages === 1;
      pager.querySelector("[data-role=page]").textContent = `Page ${state.page + 1} of ${pages}`;
      pager.querySelector("[data-step='-1']").disabled = state.page === 0;
      pager.querySelector("[data-step='1']").disabled = state.page === pages - 1;
    }
    const count = state.found.length;
    at("status").textContent = count === 0 ? "No instance fits." :
      `${count.toLocaleString("en")} of ${instances.length.toLocaleString("en")} instances · page ${state.page + 1} of ${pages}`;
    if (moves) at("status").scrollIntoView({ block: "start" });
  }

  function card(one) {
    const open = make("button", { type: "button", className: "open" }, "Enlarge", make("span", { className: "hidden" }, ` ${instances[one].id}`));
    open.addEventListener("click", () => show(one));
    const panels = make("div", { className: "panels" }, ...gallery.tasks.map((task) => panel(one, task)));
    panels.addEventListener("click", () => show(one));
    const delta = change(one, "swap_left_right");
    const note = isNaN(delta) ? "" : `Δ ${text(delta, gallery.unit, true)}`;
    const article = make("li", { className: "card" },
      make("div", { className: "card-bar" }, make("strong", {}, note), make("span", { className: "quiet id" }, instances[one].id), open), panels);
    article.dataset.instance = one;
    return article;
  }

  function panel(one, task, lazy = true) {
    const { film, size, boxes, sentences, changed } = instances[one];
    const picture = make("div", { className: "film" });
    picture.style.aspectRatio = `${size[0]} / ${size[1]}`;
    picture.append(make("img", { loading: lazy ? "lazy" : "eager", src: `films/${film}`, alt: "", decoding: "async" }));
    const canvas = make("canvas", { "aria-hidden": "true" });
    canvas.dataset.task = task;
    picture.append(canvas, outlines(boxes, size));
    const value = number(one, task);
    const index = column[task];
    const asked = sentences[index];
    const unchanged = task === "swap_left_right" && asked && !changed[index];
    return make("figure", {}, picture, make("figcaption", {},
      make("span", { className: "which" }, HEADINGS[task], isNaN(value) ? null : make("span", { className: "score" }, `${gallery.label} ${text(value, gallery.unit)}`)),
      asked ? make("q", {}, ...asked.map(([kind, part]) => (kind === SAME ? part : make(kind === REMOVED ? "del" : "ins", {}, part))))
        : make("span", { className: "quiet" }, "no such sentence"),
      unchanged ? make("span", { className: "quiet" }, "names no side: unchanged") : null));
  }

  // A box's side of the patient, by its name.
  function sideOf(label) {
    return label.startsWith("right ") ? "right" : label.startsWith("left ") ? "left" : "other";
  }

  function outlines(boxes, [width, height]) {
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.setAttribute("aria-hidden", "true");
    for (const [label, x1, y1, x2, y2] of boxes) {
      const box = document.createElementNS(SVG, "rect");
      for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: sideOf(label) })) box.setAttribute(key, value);
      drawing.append(box);
    }
    return drawing;
  }

  // Maps are loaded and drawn when their card comes near the window.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter(({ isIntersecting }) => isIntersecting)) {
      watcher.unobserve(entry.target);
      paint(entry.target, Number(entry.target.dataset.instance), SMALL);
    }
  }, { rootMargin: "400px" });

  async function paint(container, one, side) {
    const { model } = state;
    const own = values;
    const maps = await mapsOf(gallery.models[model].data, own.places[one]);
    if (state.model !== model) return;
    for (const canvas of container.querySelectorAll("canvas[data-task]")) {
      drawMap(canvas, maps[column[canvas.dataset.task]], own.geometries[own.geometry[one]], instances[one].size, side);
    }
    container.dataset.painted = "true";
  }

  const chunks = new Map();

  // The maps of the instance at a place in a model's order, one a task; null where a map has no mass.
  async function mapsOf(data, place) {
    const piece = `${data}-maps${String(Math.floor(place / gallery.chunk)).padStart(3, "0")}`;
    if (!chunks.has(piece)) chunks.set(piece, load(piece).then(unpack));
    const maps = await chunks.get(piece);
    const first = (place % gallery.chunk) * gallery.tasks.length;
    return maps.slice(first, first + gallery.tasks.length);
  }

  async function unpack({ maps, cells }) {
    const packed = Uint8Array.from(atob(cells), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let end = 0;
    return maps.map((one) => {
      if (one === null) return null;
      const [rows, columns, peak] = one;
      end += rows * columns;
      return { rows, columns, peak, cells: bytes.subarray(end - rows * columns, end) };
    });
  }

  // For each pixel of one axis: the two cells around its centre and the second one's weight; null where the model saw nothing.
  function axis(pixels, original, scale, offset, frame, cells) {
    return Array.from({ length: pixels }, (_, pixel) => {
      const place = ((pixel + 0.5) / pixels) * original * scale + offset;
      if (place < 0 || place >= frame) return null;
      const cell = Math.min(Math.max((place * cells) / frame - 0.5, 0), cells - 1);
      const low = Math.floor(cell);
      return [low, Math.min(low + 1, cells - 1), cell - low];
    });
  }

  function drawMap(canvas, map, geometry, [width, height], side) {
    const scale = side / Math.max(width, height);
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    if (map === null) return;
    const [, , frameWidth, frameHeight, scaleX, scaleY, offsetX, offsetY] = geometry;
    const across = axis(canvas.width, width, scaleX, offsetX, frameWidth, map.columns);
    const down = axis(canvas.height, height, scaleY, offsetY, frameHeight, map.rows);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    const unit = map.peak / 255;
    down.forEach((y, row) => across.forEach((x, columnAt) => {
      if (x === null || y === null) return;
      const [top, bottom] = [y[0] * map.columns, y[1] * map.columns];
      const upper = map.cells[top + x[0]] * (1 - x[2]) + map.cells[top + x[1]] * x[2];
      const lower = map.cells[bottom + x[0]] * (1 - x[2]) + map.cells[bottom + x[1]] * x[2];
      pixels.data.set(tint((upper * (1 - y[2]) + lower * y[2]) * unit), (row * canvas.width + columnAt) * 4);
    }));
    context.putImageData(pixels, 0, 0);
  }

  // The colour over a film, [red, green, blue, opacity] of 255, for a density in times an even spread.
  function tint(density) {
    const { strongest, colours, opacity, rise } = gallery.scale;
    const strength = Math.min(Math.max((density - 1) / (strongest - 1), 0), 1);
    const place = strength * (colours.length - 1);
    const low = Math.min(Math.floor(place), colours.length - 2);
    const mixed = colours[low].map((channel, index) => channel + (colours[low + 1][index] - channel) * (place - low));
    return [...mixed, strength ** rise * opacity * 255];
  }

  function drawLegend(canvas) {
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(canvas.width, canvas.height);
    for (let pixel = 0; pixel < canvas.width * canvas.height; pixel += 1) {
      pixels.data.set(tint(((pixel % canvas.width) / (canvas.width - 1)) * gallery.scale.strongest), pixel * 4);
    }
    context.putImageData(pixels, 0, 0);
  }

  // One instance large, with every model's figures.
  async function show(one) {
    state.open = one;
    const place = state.found.indexOf(one);
    at("viewer-title").replaceChildren(make("span", {}, gallery.models[state.model].label), make("span", { className: "quiet" }, `${place + 1} of ${state.found.length} · ${instances[one].id}`));
    at("earlier").disabled = place <= 0;
    at("later").disabled = place === state.found.length - 1;
    at("viewer-panels").replaceChildren(...gallery.tasks.map((task) => panel(one, task, false)));
    if (!at("viewer").open) at("viewer").showModal();
    paint(at("viewer-panels"), one, LARGE);
    const all = await Promise.all(gallery.models.map(({ data }) => load(`${data}-values`)));
    if (state.open === one) at("viewer-table").replaceChildren(...comparison(one, all));
  }

  function comparison(one, all) {
    const headings = gallery.tasks.map((task) => make("th", { scope: "col" }, HEADINGS[task]));
    const rows = all.map(({ values: own }, model) => {
      const choice = make("button", { type: "button", className: "link", "aria-pressed": String(model === state.model) }, gallery.models[model].label);
      choice.addEventListener("click", async () => {
        at("model").value = String(model);
        await choose(model);
        await show(one);
        at("viewer-table").querySelectorAll("button.link")[model]?.focus();
      });
      return make("tr", { className: model === state.model ? "chosen" : "" }, make("th", { scope: "row" }, choice),
        ...own[one].map((value) => make("td", {}, text(value, gallery.unit))));
    });
    return [make("caption", {}, `${gallery.label} of each model against the boxes`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Model"), ...headings)), make("tbody", {}, ...rows)];
  }

  function go(step) {
    const next = state.found[state.found.indexOf(state.open) + step];
    if (next !== undefined) show(next);
  }

  // The page behind goes to the instance that was seen last.
  function closed() {
    const place = state.found.indexOf(state.open);
    state.open = null;
    if (place < 0) return;
    if (Math.floor(place / PAGE) !== state.page) turn(Math.floor(place / PAGE), false);
    at("cards").children[place % PAGE]?.querySelector("button.open").focus();
  }

  await start();
})();
