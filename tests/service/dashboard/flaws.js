// What somebody would miss who cannot see the page, or has no pointer; a few of the checks of axe-core.
() => {
  const flaws = [];
  const named = (e) => e.getAttribute("aria-label") || e.labels?.length ||
    e.textContent.trim() || e.title || document.getElementById(e.getAttribute("aria-labelledby"));
  const seen = (e) => e.checkVisibility() && !e.closest("[hidden]");
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  if (document.documentElement.lang !== "en") flaws.push("no language");
  if (!document.title) flaws.push("no title");
  if (document.querySelectorAll("h1").length !== 1) flaws.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) flaws.push("not one main");
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((e) => +e.tagName[1]);
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) flaws.push("heading skipped"); });
  for (const e of all("input, select, textarea")) {
    if (e.type !== "hidden" && !e.labels?.length && !e.getAttribute("aria-label")) flaws.push(`no label: ${e.outerHTML}`);
  }
  for (const e of all("button, a[href], [role=img], nav, section, [role=region]")) {
    if (!named(e)) flaws.push(`no name: ${e.outerHTML.slice(0, 90)}`);
  }
  for (const e of all("svg")) {
    if (!e.getAttribute("aria-label") && e.getAttribute("aria-hidden") !== "true") flaws.push("a drawing without words");
  }
  for (const e of all("table")) if (!e.querySelector("th[scope=col]")) flaws.push("a table without heads");
  for (const e of all(".scroll")) if (e.tabIndex !== 0) flaws.push("what scrolls takes no focus");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) flaws.push("an id twice");
  if (document.querySelector("[style]:not(.uplot *, .uplot), script:not([src]), [onclick]")) flaws.push("inline style or script");
  return flaws;
}
