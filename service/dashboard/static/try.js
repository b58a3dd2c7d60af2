// Try it: a small batch, some variants, their answers, and the command that asks the same.

import { key, needsKey, request, root } from "./api.js";
import { JSON_TYPE, pasted, uploaded, Unreadable } from "./batch.js";
import { askForKey, element, problem, say } from "./page.js";
import { showAnswer } from "./answer.js";

const ADDRESS_CHARACTERS = 6000; // of a batch that is kept in the address
const GRADIENT_ELEMENTS = 200_000; // larger ones are not asked for
const EXAMPLE = `cat, dog, bird, label
2.0, 1.0, 0.0, cat
0.5, 2.5, 0.0, bird
-0.4, 3.1, 0.2, dog
1.2, 0.9, 1.1, cat
`;

const form = document.querySelector("form[data-try]");
const area = form.querySelector("textarea");
const files = form.querySelector("input[type=file]");
const choice = form.querySelector("[data-variants]");
const settings = form.querySelector("[data-settings]");
const results = document.querySelector("[data-results]");
const command = document.querySelector("[data-command]");
const send = form.querySelector("button.main");
const tabs = [...form.querySelectorAll("[role=tab]")];
const known = new Map();

// The address: what is chosen in the query; the batch behind #, which is never sent anywhere.
function remember() {
  const query = new URLSearchParams();
  for (const slug of chosen()) {
    const text = settingsOf(slug);
    query.append("variant", text && text !== "{}" ? `${slug}:${text}` : slug);
  }
  const text = area.value;
  const short = text && text !== EXAMPLE && text.length <= ADDRESS_CHARACTERS;
  const hash = short ? `#${encodeURIComponent(text)}` : "";
  history.replaceState(null, "", `${location.pathname}?${query}${hash}`);
}

function recalled() {
  const wanted = new Map();
  for (const each of new URLSearchParams(location.search).getAll("variant")) {
    const at = each.indexOf(":");
    wanted.set(at < 0 ? each : each.slice(0, at), at < 0 ? "" : each.slice(at + 1));
  }
  return wanted.size ? wanted : new Map([["sparse", ""], ["focal", ""]]);
}

const chosen = () => [...choice.querySelectorAll("input:checked")].map((input) => input.value);
const settingsOf = (slug) =>
  settings.querySelector(`input[name="${CSS.escape(slug)}"]`)?.value.trim() ?? "";

async function listVariants() {
  const answer = await (await request("variants")).json();
  const wanted = recalled();
  for (const page of answer.variants) {
    known.set(page.variant, page);
    const box = element("input", { type: "checkbox", value: page.variant });
    box.checked = wanted.has(page.variant);
    choice.append(element("label", { title: page.summary }, box, page.variant));
  }
  choice.setAttribute("aria-busy", "false");
  listSettings(wanted);
}

// One line of settings for each variant that is chosen and has some.
function listSettings(given = new Map()) {
  const kept = new Map(chosen().map((slug) => [slug, given.get(slug) || settingsOf(slug)]));
  settings.replaceChildren();
  for (const [slug, text] of kept) {
    const { settings: schema, example } = known.get(slug);
    const names = Object.keys(schema.properties || {});
    if (!names.length) continue;
    const required = (schema.required || []).length > 0;
    const input = element("input", { name: slug, spellcheck: "false", autocomplete: "off" });
    input.value = text || (required ? JSON.stringify(example.settings || {}) : "");
    input.placeholder = defaults(schema) || "{}";
    settings.append(element("label", {}, `${slug}`, input));
  }
}

function defaults(schema) {
  const given = Object.entries(schema.properties || {}).filter(
    ([, property]) => property.default !== undefined && property.default !== null,
  );
  return given.length ? JSON.stringify(Object.fromEntries(given.map(([name, property]) => [name, property.default]))) : "";
}

function settingsDocument(slug) {
  const input = settings.querySelector(`input[name="${CSS.escape(slug)}"]`);
  input?.removeAttribute("aria-invalid");
  const text = settingsOf(slug);
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    throw new Unreadable(`the settings of ${slug} are not JSON: ${error.message}`);
  }
}

const pastes = () => tabs[0].getAttribute("aria-selected") === "true";

async function ask() {
  const batch = pastes() ? pasted(area.value) : await uploaded([...files.files]);
  const slugs = chosen();
  if (!slugs.length) throw new Unreadable("choose a variant");
  const outputs = ["per_class", "per_sample"];
  const elements = batch.elements ?? JSON.stringify(batch.document.logits ?? []).length / 4;
  if (elements <= GRADIENT_ELEMENTS) outputs.push("gradient");
  const variants = slugs.map((variant) => {
    const given = settingsDocument(variant);
    return given === undefined ? { variant } : { variant, settings: given };
  });
  const document = { outputs, ...batch.document };
  let path = "compare";
  if (variants.length === 1) {
    path = `loss/${variants[0].variant}`;
    if (variants[0].settings) document.settings = variants[0].settings;
  } else {
    document.variants = variants;
  }
  const body = batch.write(document);
  command.textContent = curl(path, batch, document, body);
  command.closest("section").hidden = false;
  const headers = { "content-type": batch.type, accept: JSON_TYPE };
  const response = await request(path, { method: "POST", body, headers });
  return { answer: await response.json(), timing: response.headers.get("server-timing"), document };
}

// The command that asks the same. A key is named, never written.
function curl(path, batch, document, body) {
  const lines = [`curl -s ${new URL(path, root)}`];
  if (key.get()) lines.push(`-H "Authorization: Bearer $XENT_KEY"`);
  lines.push(`-H 'Content-Type: ${batch.type}'`);
  if (batch.file) {
    const name = batch.file.name.replace(/[^\w.-]/g, "_");
    lines.push(`--data-binary @${name}`);
    const note = `# ${name}: the tensors of your file, with this as metadata "request":\n# ${JSON.stringify(document)}\n`;
    return note + lines.join(" \\\n  ");
  }
  if (body.length > 20_000) {
    lines.push("-d @batch.json");
    return `# batch.json: your batch with ${JSON.stringify({ variants: document.variants, outputs: document.outputs })}\n${lines.join(" \\\n  ")}`;
  }
  lines.push(`-d '${body.replaceAll("'", `'\\''`)}'`);
  return lines.join(" \\\n  ");
}

async function submit() {
  remember();
  results.setAttribute("aria-busy", "true");
  send.disabled = true;
  say("Evaluating");
  try {
    const { answer, timing, document } = await ask();
    showAnswer(results, answer, document, timing);
    say("Evaluated");
  } catch (error) {
    results.replaceChildren(element("section", { class: "panel", "aria-label": "Problem" }, problem(error)));
    if (needsKey(error)) askForKey(error, submit);
    say("Failed");
  }
  results.setAttribute("aria-busy", "false");
  send.disabled = false;
}

function select(tab) {
  for (const each of tabs) {
    const here = each === tab;
    each.setAttribute("aria-selected", String(here));
    each.tabIndex = here ? 0 : -1;
    document.getElementById(each.getAttribute("aria-controls")).hidden = !here;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
    select(next);
    next.focus();
  });
}
choice.addEventListener("change", () => {
  listSettings();
  remember();
});
form.addEventListener("change", remember);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.querySelector("[data-example]").addEventListener("click", () => {
  area.value = EXAMPLE;
  remember();
});
area.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
});

const held = decodeURIComponent(location.hash.slice(1));
area.value = held || EXAMPLE;
listVariants()
  .then(() => held && submit())
  .catch((error) => choice.replaceChildren(problem(error)));
