// The pages of a project: shells without data. Each part is fetched from the service and put in.

import { needsKey, request, root } from "./api.js";
import { askForKey, element, problem } from "./page.js";
import { drawTimeline } from "./timeline.js";

const parts = [...document.querySelectorAll("[data-part]")];
let drawnFor = 0;

function address(part) {
  const project = location.pathname.slice(root.pathname.length).split("/")[1];
  const url = new URL(project ? `parts/${project}/${part.dataset.part}` : "parts", root);
  url.search = location.search;
  url.searchParams.set("width", Math.max(240, Math.round(part.clientWidth)));
  return url;
}

async function load(part) {
  part.setAttribute("aria-busy", "true");
  try {
    const response = await request(address(part));
    part.innerHTML = await response.text();
    await filled(part);
  } catch (error) {
    fail(part, error);
  }
  part.setAttribute("aria-busy", "false");
}

function fail(part, error) {
  if (needsKey(error)) {
    part.replaceChildren(element("p", { class: "empty" }, "A key is needed to see this."));
    askForKey(error, loadAll);
    return;
  }
  const shown = problem(error);
  if (error.status === 404) {
    // No part of the page is there: once is enough.
    shown.append(" ", element("a", { href: root.href }, "All projects"));
    document.querySelector("main").replaceChildren(element("h1", {}, "Nothing here"), shown);
    return;
  }
  if (error.status === 422) shown.append(" ", element("a", { href: location.pathname }, "Reset"));
  part.replaceChildren(shown);
}

async function filled(part) {
  const go = part.querySelector("[data-go]");
  if (go) location.replace(new URL(go.dataset.go, root));
  for (const each of part.querySelectorAll("[data-origin]")) {
    each.textContent = each.textContent.replaceAll(each.dataset.origin, root.href);
  }
  for (const form of part.querySelectorAll("form[data-state]")) form.onformdata = tidy;
  for (const plot of part.querySelectorAll("[data-timeline]")) await drawTimeline(plot);
}

// Only what was filled in goes into the address, and times say that they are UTC.
function tidy(event) {
  const times = new Set(
    [...event.target.querySelectorAll("[type=datetime-local]")].map((input) => input.name),
  );
  for (const [name, value] of [...event.formData]) {
    if (value === "") event.formData.delete(name);
    else if (times.has(name)) event.formData.set(name, `${value}Z`);
  }
}

function loadAll() {
  drawnFor = window.innerWidth;
  return Promise.all(parts.map(load));
}

// Charts are drawn for a width; a little more or less is scaled.
let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (Math.abs(window.innerWidth - drawnFor) > 0.15 * drawnFor) loadAll();
  }, 250);
});

loadAll();
