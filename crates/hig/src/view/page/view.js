// The page: what the server says of the runs, into tables, charts and buttons.
"use strict";

const COLORS = ["#1f83c6", "#e08a00", "#0a9e76", "#d9603b", "#b86fb0", "#5f6fd6", "#8f8a1c", "#c2417c", "#3f9fb0", "#8b6b4a"];
const DETAILS = ["way", "step_length", "kappa", "lambda", "krylov_steps", "rejected", "saturated", "dead", "learning_rate", "sigma_max", "sigma_min"];
const SOON = 300; // ms between two rounds of fetching
const MOST_AT_FIRST = 12; // runs whose curves are shown unasked

const find = (id) => document.getElementById(id);
const runs = new Map(); // id → what was fetched of the run
let overview = { runs: [], memory: null, peak: null, ranks: 1 };
let selected = null;
let chosen = false; // whether a person chose the selected run
let stream = null;

const again = () => runs.forEach((run) => { run.fetched = null; });
const charts = {
  time: chart("loss-time", "Loss over training time", "training time [s]", "loss", { logY: true, switchX: "time", switchY: "loss", zoomed: again }),
  steps: chart("loss-steps", "Loss over steps", "steps", "loss", { logY: true, switchX: "steps", switchY: "loss", zoomed: again }),
  spectrum: chart("spectrum", "Singular values of J", "index", "singular value", { logY: true, switchX: "index" }),
  used: chart("sigma", "Singular values that the last step used", "steps", "singular value", { logY: true, zoomed: again }),
  way: chart("way", "hig-auto: which optimizer steps", "steps", "", { names: ["", "krylov", "kron", "adam"], dots: true, zoomed: again }),
  choices: chart("choices", "Chosen at the last step before each evaluation", "steps", "value", { logY: true, switchY: "value", zoomed: again }),
  units: chart("units", "Hidden units that hardly react", "steps", "share", { zoomed: again }),
  rate: chart("learning-rate", "Learning rate", "steps", "learning rate", { logY: true, switchY: "rate", zoomed: again }),
};

function chart(id, title, x, y, options) {
  const made = new Chart(find("charts"), { id, title, x, y, counts: x === "steps" || x === "index", ...options });
  made.show([]);
  return made;
}

// What is told

function listen() {
  if (stream) stream.close();
  stream = new EventSource(`events?run=${selected ?? 0}`);
  stream.onopen = () => connection("live", false);
  stream.onerror = () => connection(overview.runs.some((run) => run.standing !== "ended") ? "connection lost, trying again; this is the last that was heard" : "the program has ended", true);
  stream.onmessage = (event) => {
    const before = overview.process;
    overview = JSON.parse(event.data);
    // A resumed run at the same address is another program's.
    if (before !== undefined && before !== overview.process) location.reload();
    connection("live", false);
    follow();
  };
}

function connection(text, lost) {
  find("connection").textContent = text;
  find("connection").classList.toggle("lost", lost);
}

/** Takes a new overview in: new runs, the selected one, all that is written in words. */
function follow() {
  for (const run of overview.runs) {
    if (!runs.has(run.id)) runs.set(run.id, { shown: runs.size < MOST_AT_FIRST, fetched: null, time: null, steps: null, details: null });
  }
  const active = overview.runs.find((run) => run.standing === "training" || run.standing === "paused");
  if (!chosen && active && active.id !== selected) select(active.id);
  else if (selected === null && overview.runs.length > 0) select(overview.runs[0].id);
  if (overview.runs.length === 0) connection("live, no run yet", false);
  table();
  words();
}

function select(id) {
  selected = id;
  Object.assign(runs.get(id), { shown: true, fetched: null, picture: 0, spectrum: -1 });
  find("answer").textContent = "";
  find("picture-panel").hidden = true;
  listen();
}

function current() {
  return overview.runs.find((run) => run.id === selected);
}

function color(id) {
  return COLORS[id % COLORS.length];
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 100) return `${short(value)} s`;
  const [minutes, hours] = [Math.floor(value / 60) % 60, Math.floor(value / 3600)];
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${Math.floor(value % 60)} s`;
}

function bytes(value) {
  return value < 2 ** 30 ? `${Math.round(value / 2 ** 20)} MiB` : `${(value / 2 ** 30).toFixed(1)} GiB`;
}

function table() {
  find("runs-panel").hidden = overview.runs.length < 2;
  if (overview.runs.length < 2) return;
  const body = find("runs").tBodies[0];
  overview.runs.forEach((run, i) => {
    let row = body.rows[i];
    if (!row) {
      row = body.insertRow();
      for (let cell = 0; cell < 8; cell++) row.insertCell();
      const box = document.createElement("input");
      box.type = "checkbox";
      box.setAttribute("aria-label", `show ${run.name}`);
      box.addEventListener("change", () => {
        Object.assign(runs.get(run.id), { shown: box.checked, fetched: null });
        drawLosses();
      });
      row.cells[0].append(box);
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = color(run.id);
      const name = document.createElement("button");
      name.type = "button";
      name.textContent = run.name;
      row.cells[1].append(swatch, name);
      for (const cell of [2, 4, 5]) row.cells[cell].className = "number";
      // Where the page is narrow, each cell names its column.
      [...find("runs").tHead.rows[0].cells].forEach((head, cell) => { row.cells[cell].dataset.name = head.textContent; });
      row.addEventListener("click", (event) => {
        if (event.target === box || run.id === selected) return;
        chosen = true;
        select(run.id);
        follow();
      });
    }
    row.cells[0].firstChild.checked = runs.get(run.id).shown;
    row.classList.toggle("selected", run.id === selected);
    const texts = [short(run.test_loss), run.note, String(run.step), seconds(run.wall_s), run.task, run.optimizer];
    texts.forEach((text, cell) => { if (row.cells[cell + 2].textContent !== text) row.cells[cell + 2].textContent = text; });
  });
}

function words() {
  const run = current();
  if (!run) return;
  const seed = run.seed === null ? "" : `, seed ${run.seed}`;
  const title = `${run.task || run.name} with ${run.optimizer || "?"}${seed}`;
  if (find("title").textContent !== title) find("title").textContent = title;
  document.title = `${run.task} ${short(run.test_loss)}, step ${run.step}`;
  const memory = run.controls ? overview.memory : null;
  const where = run.controls && overview.ranks > 1 ? " of rank 0" : "";
  const tiles = [
    ["state", run.note],
    ["step", String(run.step)],
    ["epochs", short(run.epoch)],
    ["training time", seconds(run.wall_s)],
    ["time left", run.left_s === null ? null : seconds(run.left_s)],
    ["per step", run.step > 0 && run.wall_s > 0 ? `${short(1000 * run.wall_s / run.step)} ms` : null],
    ["train loss", run.train_loss === null ? null : short(run.train_loss)],
    ["test loss", run.test_loss === null ? null : short(run.test_loss)],
    ["learning rate", run.learning_rate === null ? null : short(run.learning_rate)],
    [`memory${where}`, memory === null ? null : bytes(memory)],
    [`peak memory${where}`, run.peak_bytes !== null ? bytes(run.peak_bytes) : run.controls && overview.peak !== null ? bytes(overview.peak) : null],
  ].filter(([, value]) => value !== null);
  const parts = tiles.map(([name, value]) => tile(name, value));
  if (run.done !== null) {
    const bar = Object.assign(document.createElement("progress"), { max: 1, value: run.done });
    bar.setAttribute("aria-label", "part of the run");
    const outer = document.createElement("div");
    outer.className = "tile wide";
    outer.append(bar);
    parts.push(outer);
  }
  find("tiles").replaceChildren(...parts);
  find("controls").hidden = !run.controls;
  find("no-controls").hidden = run.controls || run.standing === "ended";
  find("pause").disabled = run.standing === "paused";
  find("resume").disabled = run.standing !== "paused";
  find("rate").hidden = run.learning_rate === null;
  const field = find("rate-value");
  if (document.activeElement !== field && run.learning_rate !== null && !field.dataset.edited) field.value = Number(run.learning_rate.toPrecision(6));
}

function tile(name, value) {
  const outer = document.createElement("dl");
  outer.className = "tile";
  outer.style.margin = "0";
  outer.dataset.name = name;
  const [term, text] = [document.createElement("dt"), document.createElement("dd")];
  [term.textContent, text.textContent] = [name, value];
  outer.append(term, text);
  return outer;
}

// What is fetched

async function fetchJson(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return response.json();
}

function rows(id, over, columns, of) {
  const ends = of.window ? `&from=${of.window[0]}&to=${of.window[1]}` : "";
  return fetchJson(`rows?run=${id}&over=${over}&columns=${columns}&log=${of.logX ? 1 : 0}&buckets=${of.width()}${ends}`);
}

/** Fetches what is new of a run. */
async function update(state, run) {
  if (run.shown && run.fetched !== state.rows) {
    run.fetched = state.rows;
    const losses = "train_loss,test_loss";
    [run.time, run.steps] = [await rows(state.id, "wall_s", losses, charts.time), await rows(state.id, "step", losses, charts.steps)];
    if (state.id === selected) run.details = await rows(state.id, "step", DETAILS, charts.units);
    drawLosses();
    if (state.id === selected) drawDetails(run);
  }
  if (state.id !== selected) return;
  if (run.spectrum !== state.spectrum && state.spectrum > 0) {
    run.spectrum = state.spectrum;
    drawSpectrum(await fetchJson(`spectrum?run=${state.id}`));
  } else if (state.spectrum === 0) {
    charts.spectrum.show([]);
  }
  if (run.picture !== state.picture && state.picture > 0) {
    run.picture = state.picture;
    const { caption, step } = await fetchJson(`picture?run=${state.id}`);
    find("picture-caption").textContent = step === null ? `${caption} (last checkpoint)` : `${caption} (step ${step})`;
    find("picture").alt = caption;
    find("picture").src = `picture.svg?run=${state.id}&version=${state.picture}`;
    find("picture-panel").hidden = false;
  }
}

async function updateAll() {
  try {
    for (const state of overview.runs) await update(state, runs.get(state.id));
  } catch {
    again(); // the stream of events says that the connection is lost
  }
  setTimeout(updateAll, SOON);
}

function points(curves, name) {
  const found = curves?.curves.find(([own]) => own === name);
  return found ? found[1] : [];
}

function drawLosses() {
  const shown = overview.runs.filter((state) => runs.get(state.id).shown);
  for (const [chart, key, x] of [[charts.time, "time", "wall_s"], [charts.steps, "steps", "step"]]) {
    const several = overview.runs.length > 1;
    chart.remark(several ? "dashed: train (mini-batches), solid: test" : "");
    const series = shown.flatMap((state) => {
      const curves = runs.get(state.id)[key];
      const before = several ? `${state.name}: ` : "";
      return [
        { name: `${before}train (mini-batches)`, color: color(state.id), dashed: true, legend: several ? "" : "train (mini-batches)", points: points(curves, "train_loss") },
        { name: `${before}test`, color: color(state.id), legend: several ? state.name : "test", points: points(curves, "test_loss") },
      ];
    });
    const events = runs.get(selected)?.[key]?.events ?? [];
    chart.show(series, events.filter((event) => event.kind === "event").map((event) => ({ x: event[x], text: event.text })));
  }
}

function drawDetails(run) {
  const of = (list) => list.map(([column, name, index]) => ({ name, color: COLORS[index], points: points(run.details, column) }));
  charts.used.show(of([["sigma_max", "largest", 0], ["sigma_min", "smallest that was kept", 1]]));
  charts.way.show(of([["way", "optimizer", 0]]));
  const chooses = ["way", "step_length", "lambda"].some((column) => points(run.details, column).length > 0);
  const choices = [["step_length", "step length", 0], ["kappa", "exponent κ", 2], ["lambda", "damping λ", 3], ["krylov_steps", "Krylov vectors k", 1], ["rejected", "rejected since the last row", 4]];
  charts.choices.show(chooses ? of(choices).filter((one) => one.points.some(([, y]) => y > 0)) : []);
  charts.units.show(of([["saturated", "saturated (slope below 0.02), of units and samples", 1], ["dead", "saturated on every sample, of units", 3]]));
  const rate = points(run.details, "learning_rate");
  charts.rate.show(rate.some(([, y]) => y !== rate[0][1]) ? of([["learning_rate", "learning rate", 0]]) : []);
  const events = run.details?.events ?? [];
  find("events-panel").hidden = events.length === 0;
  find("events").replaceChildren(...events.slice().reverse().map((event) => {
    const kind = event.kind === "event" ? "" : `${event.kind}: `;
    return Object.assign(document.createElement("li"), { textContent: `step ${event.step}: ${kind}${event.text}` });
  }));
}

function drawSpectrum(spectra) {
  const now = spectra.now_step === null ? "now" : `step ${spectra.now_step}`;
  charts.spectrum.show([
    { name: "start", color: COLORS[1], points: spectra.start },
    { name: now, color: COLORS[0], points: spectra.now },
    { name: "end", color: COLORS[0], points: spectra.end },
  ]);
  charts.spectrum.remark(spectra.samples === null ? "" : `over the first ${spectra.samples} training samples`);
}

// What is asked

async function ask(control, said) {
  const answer = find("answer");
  answer.classList.remove("refused");
  answer.textContent = `${said}: after the present step`;
  try {
    const response = await fetch(`control?run=${selected}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(control) });
    if (response.ok) return;
    answer.textContent = await response.text();
  } catch {
    answer.textContent = "the program does not answer";
  }
  answer.classList.add("refused");
}

for (const [id, said] of [["pause", "pause"], ["resume", "resume"], ["evaluate", "evaluation"], ["checkpoint", "checkpoint"], ["stop", "stop"]]) {
  find(id).addEventListener("click", () => ask({ do: id }, said));
}
find("rate-value").addEventListener("input", () => { find("rate-value").dataset.edited = "yes"; });
find("rate").addEventListener("submit", (event) => {
  event.preventDefault();
  const [field, answer] = [find("rate-value"), find("answer")];
  const to = Number(field.value);
  delete field.dataset.edited;
  field.blur();
  if (to > 0 && Number.isFinite(to)) {
    ask({ do: "learning-rate", to }, `learning rate ${short(to)}`);
  } else {
    answer.textContent = "a learning rate is a positive number";
    answer.classList.add("refused");
  }
});

// A browser has six connections to a server, which its hidden pages are not to keep.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stream.close();
  else listen();
});

listen();
updateAll();
