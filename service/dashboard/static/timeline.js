// One metric over time: a line for each group, its interval as a band, gaps left as gaps.

import { request } from "./api.js";
import { element, problem } from "./page.js";

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const COLOURS = 8;
// From a length in seconds on: how ticks are written, and what is added where the year or the day begins.
const TICKS = [
  [31536000, "{YYYY}", null, null, null, null, null, null, 1],
  [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
];
const STATES = {
  low_n: "few rows",
  partial: "not complete yet",
  nonfinite: "some rows were not finite",
  empty: "no rows",
};

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const digits = (value) =>
  value === null || value === undefined
    ? "–"
    : Number(value).toLocaleString("en", { maximumSignificantDigits: 4 });

const utc = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");

// Columns that uPlot takes: times, then value, low and high of each group.
export function columns(answer) {
  const times = [...new Set(answer.rows.map((row) => row.time))]
    .map((time) => [time, Date.parse(time) / 1000])
    .sort((a, b) => a[1] - b[1]);
  const place = new Map(times.map(([time], at) => [time, at]));
  const groups = new Map();
  for (const row of answer.rows) {
    const name = answer.by.map((by) => row[by] ?? "–").join(" · ") || answer.metric;
    if (!groups.has(name)) {
      const nothing = () => new Array(times.length).fill(null);
      groups.set(name, { name, value: nothing(), low: nothing(), high: nothing(), row: nothing() });
    }
    const group = groups.get(name);
    const at = place.get(row.time);
    group.row[at] = row;
    if (row.status === "empty") continue;
    group.value[at] = row.value;
    group.low[at] = row.low ?? row.value;
    group.high[at] = row.high ?? row.value;
  }
  return { times: times.map(([, seconds]) => seconds), groups: [...groups.values()] };
}

export async function drawTimeline(plot) {
  const { timeline, annotations } = plot.dataset;
  const figure = plot.closest("figure");
  try {
    const [answer, notes] = await Promise.all([
      request(timeline).then((response) => response.json()),
      annotations ? request(annotations).then((response) => response.json()) : { annotations: [] },
    ]);
    const data = columns(answer);
    if (!data.groups.some((group) => group.value.some((value) => value !== null))) {
      plot.replaceChildren(element("p", { class: "empty" }, "Nothing was evaluated in this time. Choose another, or reset the filters."));
      return;
    }
    draw(plot, figure, answer, data, notes.annotations);
    figure.querySelector("[data-table]")?.append(table(answer));
  } catch (error) {
    plot.replaceChildren(problem(error));
  }
}

function draw(plot, figure, answer, data, annotations) {
  const theme = { ink: colour("soft"), rule: colour("rule") };
  const series = [{}];
  const bands = [];
  data.groups.forEach((group, at) => {
    const stroke = colour(`s${at % COLOURS}`);
    const first = series.length;
    series.push(
      {
        label: group.name,
        stroke,
        width: 1.75,
        dash: DASHES[Math.floor(at / COLOURS) % DASHES.length],
        points: points(group.value, stroke),
      },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
    );
    bands.push({ series: [first + 2, first + 1], fill: alpha(stroke, 0.16) });
  });
  // Where no value is negative, neither is the axis: bands are cut there.
  const values = data.groups.flatMap((group) => group.value).filter((value) => value !== null);
  const floor = Math.min(...values) >= 0 ? 0 : -Infinity;
  const axis = {
    stroke: theme.ink,
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    grid: { stroke: theme.rule, width: 1 },
    ticks: { stroke: theme.rule, width: 1, size: 5 },
  };
  const options = {
    width: plot.clientWidth,
    height: plot.clientHeight,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    series,
    bands,
    padding: [14, 22, 0, 0],
    cursor: { y: false, drag: { x: true, y: false, setScale: true } },
    scales: { y: { range: (_, low, high) => room(low, high, floor) } },
    axes: [
      { ...axis, space: 70, values: TICKS },
      { ...axis, size: 58, values: (_, ticks) => ticks.map(digits) },
    ],
    hooks: {
      drawClear: [(chart) => shade(chart, plot.dataset)],
      draw: [
        (chart) => mark(chart, annotations, theme.ink),
        (chart) => data.groups.forEach((group, at) => whisker(chart, group, at)),
      ],
      setCursor: [(chart) => read(chart)],
    },
  };
  const readout = figure.querySelector("[data-readout]");
  const legend = figure.querySelector("[data-legend]");
  plot.replaceChildren();
  const rows = data.groups.flatMap((group) => [group.value, group.low, group.high]);
  const chart = new uPlot(options, [data.times, ...rows], plot);
  const entries = data.groups.map((group, at) => entry(legend, group, at, chart));
  let shown = null;

  function read(chart) {
    const at = chart.cursor.idx;
    if (at === shown) return;
    shown = at;
    data.groups.forEach((group, which) => {
      entries[which].textContent = digits(at === null || at === undefined ? last(group.value) : group.value[at]);
    });
    readout.textContent = at === null || at === undefined ? hint(answer) : told(data, at, answer);
  }

  shown = undefined;
  read({ cursor: { idx: null } });
  steer(plot, chart, data.times.length);
  window.addEventListener("resize", () => {
    if (plot.clientWidth) chart.setSize({ width: plot.clientWidth, height: plot.clientHeight });
  });
  // A canvas has the colours that it was drawn with.
  matchMedia("(prefers-color-scheme: dark)").addEventListener(
    "change",
    () => {
      if (!plot.isConnected) return;
      chart.destroy();
      legend.replaceChildren();
      draw(plot, figure, answer, data, annotations);
    },
    { once: true },
  );
}

const hint = (answer) => `Steps of ${length(answer.step_s)}. Arrow keys or the pointer read values.`;

function length(seconds) {
  for (const [unit, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds % unit === 0) return seconds === unit ? `one ${name}` : `${seconds / unit} ${name}s`;
  }
  return `${seconds} s`;
}

function told(data, at, answer) {
  const parts = data.groups
    .filter((group) => group.row[at])
    .map((group) => {
      const row = group.row[at];
      const interval =
        row.low === null || row.low === undefined ? "" : ` (${digits(row.low)} to ${digits(row.high)})`;
      const state = STATES[row.status] ? `, ${STATES[row.status]}` : "";
      return `${group.name}: ${digits(row.value)}${interval}, ${digits(row.rows)} rows${state}`;
    });
  return `${utc(data.times[at])}, ${answer.metric}. ${parts.join("; ")}`;
}

const last = (values) => values.findLast((value) => value !== null) ?? null;

const heldAt = (values) => values.flatMap((value, at) => (value === null ? [] : [at]));

const aloneAt = (values) =>
  heldAt(values).filter((at) => (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null);

// A value between two gaps has no line, so it is drawn as a point; where there is room, all are.
function points(values, fill) {
  const few = values.length <= 60;
  const shown = few ? heldAt(values) : aloneAt(values);
  return shown.length ? { show: true, filter: () => shown, size: 5, fill, width: 0 } : { show: false };
}

// Nor has it a band: its interval is drawn as a line from end to end.
function whisker(chart, group, at) {
  if (!chart.series[3 * at + 1].show) return;
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = alpha(colour(`s${at % COLOURS}`), 0.55);
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  aloneAt(group.value).forEach((place) => {
    const x = chart.valToPos(chart.data[0][place], "x", true);
    ctx.moveTo(x, chart.valToPos(group.low[place], "y", true));
    ctx.lineTo(x, chart.valToPos(group.high[place], "y", true));
  });
  ctx.stroke();
  ctx.restore();
}

function room(low, high, floor) {
  if (low === null || low === undefined) return [0, 1];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [Math.max(low - margin, floor), high + margin];
}

function alpha(hex, share) {
  return `${hex}${Math.round(share * 255).toString(16).padStart(2, "0")}`;
}

function shade(chart, { referenceFrom, referenceTo }) {
  if (!referenceFrom) return;
  const { ctx, bbox } = chart;
  const inside = (at) => Math.min(Math.max(at, bbox.left), bbox.left + bbox.width);
  const from = inside(chart.valToPos(Date.parse(referenceFrom) / 1000, "x", true));
  const to = inside(chart.valToPos(Date.parse(referenceTo) / 1000, "x", true));
  if (to <= from) return;
  ctx.save();
  ctx.fillStyle = alpha(colour("s6"), 0.1);
  ctx.fillRect(from, bbox.top, to - from, bbox.height);
  ctx.fillStyle = colour("soft");
  ctx.font = `${11 * devicePixelRatio}px sans-serif`;
  if (to - from > 70 * devicePixelRatio) {
    ctx.fillText("reference", from + 6 * devicePixelRatio, bbox.top + bbox.height - 7 * devicePixelRatio);
  }
  ctx.restore();
}

function mark(chart, annotations, ink) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = ink;
  ctx.fillStyle = ink;
  ctx.lineWidth = devicePixelRatio;
  annotations.forEach((note) => {
    const at = Math.round(chart.valToPos(Date.parse(note.time) / 1000, "x", true));
    if (!(at >= bbox.left && at <= bbox.left + bbox.width)) return;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.beginPath();
    const size = 4 * devicePixelRatio;
    ctx.moveTo(at - size, bbox.top - size);
    ctx.lineTo(at + size, bbox.top - size);
    ctx.lineTo(at, bbox.top + size);
    ctx.fill();
  });
  ctx.restore();
}

function entry(legend, group, at, chart) {
  const value = element("b");
  const button = element(
    "button",
    { type: "button", "aria-pressed": "true", title: "Show or hide" },
    element("span", { class: `swatch s${at % COLOURS}` }),
    element("span", { class: "name" }, group.name),
    value,
  );
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(show));
    for (const each of [1, 2, 3]) chart.setSeries(3 * at + each, { show });
  });
  legend.append(button);
  return value;
}

// The chart takes the focus; arrow keys move the cursor from one point to the next.
function steer(plot, chart, points) {
  plot.onkeydown = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -points, End: points };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const now = chart.cursor.idx ?? (step > 0 ? -1 : points);
    const at = Math.min(Math.max(now + step, 0), points - 1);
    chart.setCursor({ left: chart.valToPos(chart.data[0][at], "x"), top: 10 });
  };
}

function table(answer) {
  const names = ["time", ...answer.by, "value", "low", "high", "rows", "status"];
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const body = answer.rows.map((row) =>
    element(
      "tr",
      {},
      ...names.map((name) => {
        const cell = row[name];
        const numeric = typeof cell === "number" || cell === null;
        return element("td", numeric ? { class: "n" } : {}, numeric ? digits(cell) : String(cell ?? "–"));
      }),
    ),
  );
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}
