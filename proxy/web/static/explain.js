// @ts-check
/** Explain: where a request would go and why, and what another config would have done. Nobody is asked for it. */

import { CONTRACTS } from "./contracts.js";
import { counted, h, labelled, put } from "./dom.js";
import { reason } from "./reason.js";
import { json } from "./store.js";

const kept = { path: "/v1/chat/completions", headers: "", body: "", config: "" };

/** Go there with a request. @param {string} path @param {any} body */
export function fill(path, body) {
  Object.assign(kept, { path: `/${path}`, headers: "", body: JSON.stringify(body, null, 2) });
  location.hash = "#/explain";
}

/** @typedef {{id: string, path: string, model: string, before: string, after: string, why: string}} Difference */
/** @typedef {{line: number, column: number, message: string}} Fault */

/** @param {HTMLElement} main */
export function explainView(main) {
  const path = h("input", { id: "explain-path", list: "paths", class: "mono", value: kept.path, spellcheck: "false", onchange: example });
  const headers = h("textarea", { id: "explain-headers", class: "mono", rows: "2", spellcheck: "false", placeholder: "x-team: research" });
  const body = h("textarea", { id: "explain-body", class: "mono", rows: "10", spellcheck: "false" });
  const trace = h("div", { id: "trace", class: "flow", role: "status" }, h("p", { class: "soft" }, "The trace appears here: the rule that takes the request, why those above it do not, and what is sent to whom."));
  const config = h("textarea", { id: "config-text", class: "mono", rows: "22", spellcheck: "false", wrap: "off" });
  const judged = h("div", { id: "judged", class: "flow", role: "status" }, h("p", { class: "soft" }, "Edit the copy, then see which of the last 500 requests would have gone elsewhere. It is not taken up."));
  headers.value = kept.headers;
  body.value = kept.body;

  put(
    main,
    h("h1", {}, "Explain"),
    h("p", { class: "lead" }, "Where would this request go, and why? The router answers as it would in earnest; no model is asked."),
    h(
      "div",
      { class: "split even" },
      h("form", { class: "flow", onsubmit: explain }, labelled("Path", path, ""), labelled("Headers, one a line", headers, ""), labelled("Body", body, ""), h("button", {}, "Explain"), h("datalist", { id: "paths" }, Object.values(CONTRACTS).map((one) => h("option", { value: `/${one.path}` })))),
      trace,
    ),
    h(
      "section",
      {},
      h("div", { class: "head" }, h("h2", {}, "What would another config have done?"), h("button", { type: "button", class: "link", onclick: () => void copy(true) }, "begin again with the file")),
      h("div", { class: "split even" }, h("form", { class: "flow", onsubmit: diff }, labelled("A copy of the config, without its secrets", config, ""), h("button", {}, "Compare")), judged),
    ),
  );
  if (!kept.body) example();
  config.value = kept.config;
  void copy(false);
  return () => {
    kept.path = path.value;
    kept.headers = headers.value;
    kept.body = body.value;
    kept.config = config.value;
  };

  function example() {
    const contract = Object.values(CONTRACTS).find((one) => `/${one.path}` === path.value);
    if (contract) body.value = JSON.stringify(contract.body([{ role: "user", content: "Hello" }], "gpt-5"), null, 2);
  }

  /** @param {boolean} anew */
  async function copy(anew) {
    if (config.value && !anew) return;
    try {
      config.value = (await json("status/config")).config;
    } catch {
      config.placeholder = "Paste a config here.";
    }
  }

  /** @param {Event} event */
  async function explain(event) {
    event.preventDefault();
    const given = headers.value.split("\n").map((line) => line.split(/:(.*)/s).map((part) => part.trim())).filter(([name]) => name);
    try {
      const request = { path: path.value, headers: Object.fromEntries(given.map(([name, value]) => [name, value ?? ""])), ...(body.value.trim() ? { body: JSON.parse(body.value) } : {}) };
      put(trace, ...told(await json("explain", request)));
    } catch (error) {
      put(trace, h("p", { class: "fault" }, error instanceof SyntaxError ? `The body is no JSON: ${error.message}` : error instanceof Error ? error.message : String(error)));
    }
  }

  /** @param {Event} event */
  async function diff(event) {
    event.preventDefault();
    try {
      put(judged, ...compared(await json("explain/diff", { config: config.value })));
    } catch (error) {
      put(judged, h("p", { class: "fault" }, error instanceof Error ? error.message : String(error)));
    }
  }

  /** @param {{errors: Fault[], warnings: Fault[], requests: number, differs: Difference[], unknown: Difference[]}} found */
  function compared(found) {
    if (found.errors.length) {
      return [h("div", { class: "fault" }, h("b", {}, `${counted(found.errors.length, "error")}. `), "This file would not be taken up.", h("ul", {}, found.errors.map((fault) => h("li", {}, at(fault)))))];
    }
    /** @type {Map<string, Difference[]>} */
    const groups = new Map();
    for (const one of found.differs) {
      const mark = `${one.before}\n${one.after}`;
      groups.set(mark, [...(groups.get(mark) ?? []), one]);
    }
    return [
      h("p", {}, h("b", {}, `${counted(found.differs.length, "request")} of ${found.requests} would have gone elsewhere.`)),
      h(
        "ul",
        { class: "why" },
        [...groups.values()].map((some) =>
          h("li", { class: "yes" }, h("span", {}, h("span", { class: "soft" }, some[0].before), h("br"), h("b", {}, `→ ${some[0].after}`), h("br"), h("span", { class: "small soft" }, `${counted(some.length, "request")}, such as `, h("a", { href: `#/requests/${encodeURIComponent(some[0].id)}` }, some[0].model || some[0].path)))),
        ),
      ),
      found.unknown.length > 0 && h("p", { class: "small soft" }, `Of ${counted(found.unknown.length, "request")} it cannot be told: the config asks for something that was not kept (${[...new Set(found.unknown.map((one) => one.why))].join(", ")}).`),
      found.warnings.length > 0 && h("ul", { class: "changes small" }, found.warnings.map((fault) => h("li", {}, at(fault)))),
    ].filter((node) => node !== false);
  }

  /** An error that leads to its line. @param {Fault} fault */
  function at(fault) {
    if (!fault.line) return fault.message;
    const go = () => {
      const lines = config.value.split("\n");
      const start = lines.slice(0, fault.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
      config.focus();
      config.setSelectionRange(start, start + (lines[fault.line - 1] ?? "").length);
      config.scrollTop = (config.scrollHeight / lines.length) * Math.max(0, fault.line - 6);
    };
    return [h("button", { type: "button", class: "link num", onclick: go }, `line ${fault.line}`), `: ${fault.message}`];
  }
}

/** @param {any} found an explanation, as `chat-proxy explain --json` prints it */
function told(found) {
  const rules = found.skipped.map((/** @type {any} */ rule) => `${rule.route}: ${rule.condition === "off" ? `off: ${rule.got}` : `wants ${rule.condition} ${rule.wanted}, got ${rule.got}`}`);
  if (found.route) rules.push(`${found.route}: takes it`);
  if (found.error) rules.push(`refused: ${found.error.status} ${found.error.message}`);
  const parameters = Object.entries(found.parameters);
  /** @type {[string, any][]} */
  const facts = [
    ["Contract", found.contract],
    ["Model asked for", found.model ?? "none"],
    ["First token within", found.timers && `${found.timers.first_token_s} s`],
    ["Pause up to", found.timers && `${found.timers.token_gap_s} s`],
    ["In all", found.timers && `${found.timers.total_s} s`],
    ...Object.entries(found.guards).map(([name, words]) => /** @type {[string, any]} */ ([name[0]?.toUpperCase() + name.slice(1), words])),
    ["When cut", found.on_cut],
  ];
  return [
    h("ol", { class: "why" }, rules.map(reason)),
    found.targets.length > 0 && h("section", {}, h("h3", {}, "Asked, in this order"), h("ol", {}, found.targets.map((/** @type {any} */ one) => h("li", { class: "mono" }, one.target, one.share > 0 && one.share < 1 && h("span", { class: "soft" }, `  ${Math.round(one.share * 100)} % of requests`))))),
    found.unused.length > 0 && h("p", { class: "small soft" }, `Not used: ${found.unused.map((/** @type {any} */ one) => `${one.target} (${one.why})`).join(", ")}`),
    parameters.length > 0 && h("section", {}, h("h3", {}, "Sent"), h("ul", { class: "changes small" }, parameters.map(([name, { value, origin }]) => h("li", {}, h("span", { class: "mono" }, `${name} ${JSON.stringify(value)}`), h("span", { class: "soft" }, `  from the ${origin === "request" ? "request" : `route's ${origin}`}`))))),
    found.omissions.length > 0 && h("ul", { class: "changes small" }, found.omissions.map((/** @type {any} */ one) => h("li", {}, `${one.target}: ${one.what}`))),
    h("section", {}, h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))),
  ].filter((node) => node !== false);
}
