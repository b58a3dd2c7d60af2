// What every page has: the box that asks for a key, buttons that copy, a line that says what happened.

import { key, root } from "./api.js";

const status = document.querySelector("[data-status]");
const box = document.querySelector("[data-keybox]");
const forget = document.querySelector("[data-forget]");

export function say(text) {
  status.textContent = text;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

// A problem, with the places in the request that it is about.
export function problem(error) {
  const shown = element("div", { class: "problem", role: "alert" });
  const title = error.title || "Something failed";
  shown.append(element("strong", {}, title), ` ${error.message === title ? "" : error.message}`);
  const faults = (error.errors || []).filter((fault) => fault.message);
  if (faults.length) {
    const items = faults.map((fault) =>
      element("li", {}, element("code", {}, fault.pointer || "/"), ` ${fault.message}`),
    );
    shown.append(element("ul", {}, ...items));
  }
  return shown;
}

export function askForKey(error, retry) {
  const wasHidden = box.hidden;
  box.hidden = false;
  box.querySelector("[data-keynote]").textContent = error.message;
  box.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    key.set(box.querySelector("input").value.trim());
    box.hidden = true;
    forget.hidden = false;
    retry();
  };
  if (wasHidden) box.querySelector("input").focus();
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Pages that do not come over TLS have no clipboard; a selection still can be copied.
  const area = element("textarea", { class: "unseen", readonly: "" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-url], [data-copy-text]");
  if (!button) return;
  const { copyUrl, copyText } = button.dataset;
  const text =
    copyUrl === undefined
      ? document.getElementById(copyText).textContent
      : new URL(copyUrl, root).href;
  const before = button.textContent;
  try {
    await copy(text);
    button.textContent = "Copied";
    say(`Copied ${text.length > 200 ? "the command" : text}`);
  } catch {
    say(text);
    button.textContent = "See below";
  }
  setTimeout(() => (button.textContent = before), 1600);
});

// The current page may be outside of a narrow row of links.
const here = document.querySelector(".pages [aria-current]");
here?.parentElement.scrollTo({ left: here.offsetLeft - 80 });

forget.hidden = !key.get();
forget.addEventListener("click", () => {
  key.forget();
  location.reload();
});
