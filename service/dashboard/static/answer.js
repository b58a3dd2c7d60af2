// The answer of POST /loss or /compare as tables.

import { element } from "./page.js";

const ROWS = 20;
const CLASSES = 50;

export const shown = (value, significant = 4) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7)) return value.toExponential(significant - 1);
  return value.toLocaleString("en", { maximumSignificantDigits: significant });
};

export function showAnswer(place, answer, document, timing) {
  const results = (answer.results || [{ ...answer, name: answer.variant }]);
  const panels = [losses(results, answer, timing)];
  for (const each of [perClass, perRow]) {
    const panel = each(results, document);
    if (panel) panels.push(panel);
  }
  place.replaceChildren(...panels);
}

function panel(title, note, ...children) {
  const id = `${title.toLowerCase().replaceAll(" ", "-")}-title`;
  const head = element("div", { class: "head" }, element("h2", { id }, title));
  if (note) head.append(element("p", { class: "note" }, note));
  return element("section", { class: "panel", "aria-labelledby": id }, head, ...children);
}

function table(names, rows, label, numeric = (at) => at > 0) {
  const head = names.map((name, at) => element("th", { scope: "col", class: numeric(at) ? "n" : null }, name));
  const body = rows.map((row) =>
    element(
      "tr",
      {},
      ...row.map((cell, at) =>
        at === 0
          ? element("th", { scope: "row" }, cell)
          : element("td", { class: numeric(at) ? "n" : null }, cell),
      ),
    ),
  );
  const made = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, made);
}

function losses(results, answer, timing) {
  const [{ rows, label_kind: kind, classes }] = results;
  const compute = /compute;dur=([\d.]+)/.exec(timing || "")?.[1];
  const note = [
    `${shown(rows.evaluated)} of ${shown(rows.total)} rows, ${shown(classes)} classes, ${kind || "no"} labels`,
    rows.nonfinite ? `${shown(rows.nonfinite)} not finite` : "",
    compute ? `computed in ${shown(Number(compute), 3)} ms` : "",
  ].filter(Boolean).join("; ");
  const entropy = new Map((answer.variants || []).map((each) => [each.name, each.normalised_entropy]));
  const names = ["variant", "loss", "sum", "denominator", ...(entropy.size ? ["of the prior's"] : [])];
  const lines = results.map((each) => [
    each.name,
    each.loss === null ? each.undefined || "–" : shown(each.loss, 6),
    shown(each.reduction.sum, 6),
    `${shown(each.reduction.denominator)} ${each.reduction.normaliser}`,
    ...(entropy.size ? [shown(entropy.get(each.name))] : []),
  ]);
  const made = panel("Losses", note, table(names, lines, "Losses by variant"));
  const said = results.flatMap((each) => each.diagnostics.map((one) => `${one.severity}: ${one.message}`));
  if (said.length) {
    made.append(element("ul", { class: "note" }, ...[...new Set(said)].map((text) => element("li", {}, text))));
  }
  if (results.length > 1) {
    made.append(element("p", { class: "note" }, "Losses of different variants have different units. Of the prior's: the loss over that of a predictor that knows the class frequencies only."));
  }
  return made;
}

function perClass(results) {
  const [{ per_class: first }] = results;
  if (!first) return null;
  const names = ["class", "support", "recall", ...results.flatMap((each) => [`${each.name} loss`, "share"])];
  const lines = first.class.slice(0, CLASSES).map((index, at) => [
    first.name?.[at] ?? (index < 0 ? "others" : String(index)),
    shown(first.support[at]),
    shown(first.recall?.[at], 3),
    ...results.flatMap(({ per_class: columns }) => {
      const there = columns.class.indexOf(index);
      return there < 0 ? ["–", "–"] : [shown(columns.loss_mean[there]), percent(columns.loss_share[there])];
    }),
  ]);
  const left = first.class.length - lines.length;
  return panel("Classes", left > 0 ? `The first ${CLASSES} of ${first.class.length}.` : "", table(names, lines, "Loss by class"));
}

const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

// Rows as they came: the loss of each, and its gradient where it was asked for.
function perRow(results, document) {
  const [{ per_sample: first, gradient }] = results;
  if (!Array.isArray(first) || Array.isArray(first[0])) return null;
  const classes = gradient && Array.isArray(gradient[0]) ? gradient[0].length : 0;
  const wide = classes > 0 && classes <= 12;
  const blocks = results.map((each) => {
    const columns = wide ? each.gradient[0].map((_, at) => document.class_names?.[at] ?? `z${at}`) : [];
    const lines = each.per_sample.slice(0, ROWS).map((loss, at) => [
      String(at),
      shown(loss),
      ...(wide ? each.gradient[at].map((value) => shown(value, 3)) : []),
    ]);
    const made = table(["row", "loss", ...columns], lines, `Rows under ${each.name}`);
    return element("div", { class: "stack" }, element("h3", {}, each.name), made);
  });
  const note = `${first.length > ROWS ? `The first ${ROWS} of ${first.length}. ` : ""}${wide ? "The gradient is that of the reduced loss, by logit." : ""}`;
  return panel("Rows and gradient", note, element("div", { class: "stack" }, ...blocks));
}
