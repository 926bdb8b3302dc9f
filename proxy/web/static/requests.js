// @ts-check
/** Requests: the last ones as they come, and one of them in full. */

import { amount, clock, duration, h, labelled, put } from "./dom.js";
import { fill } from "./explain.js";
import { reason } from "./reason.js";
import { json, sent, store } from "./store.js";
import { replay } from "./try.js";
import { mini, span, waterfall } from "./waterfall.js";

/** @typedef {import("./store.js").Row} Row */
/** @typedef {Row & {why: string[], error: {code: string, message: string} | null}} Told */

const SLOW_MS = 5000;
const SHOWN = 100;

const kept = { route: "", key: "", end: "", slow: "" };

/** @type {Record<string, (row: Row) => boolean>} */
const ENDS = {
  "under way": (row) => row.end === null,
  done: (row) => row.end === "done",
  stopped: (row) => row.end === "client_gone",
  failed: (row) => row.end !== null && row.end !== "done" && row.end !== "client_gone",
};
/** @type {Record<string, (row: Row) => boolean>} */
const SLOW = {
  "first token over 1 s": (row) => (row.first ?? span(row)) > 1000,
  "over 5 s in all": (row) => span(row) > SLOW_MS,
  "a pause over 1 s": (row) => row.gap > 1000,
};

/** How it ended, in a word. @param {Row} row */
export function ending(row) {
  if (row.end === null) return h("span", { class: "soft" }, row.first === null ? "waiting" : "streaming");
  if (row.end === "done") return h("span", { class: "good" }, "done");
  if (row.end === "client_gone") return h("span", { class: "slow" }, "stopped");
  return h("span", { class: "bad" }, (row.error || row.end).split(/(?<=_)/).flatMap((part) => [h("wbr"), part])); // it may be long
}

/**
 * @param {HTMLElement} main
 * @param {string} id of the request that is open, or empty
 */
export function requestsView(main, id) {
  const title = h("h1", {}, id ? "One request" : "Requests");
  const detail = h("div", { class: "open-request" });
  const body = h("tbody", { id: "rows" });
  const count = h("p", { class: "soft small num" });
  const found = h("p", { class: "hidden", role: "status" }); // read out when a filter is chosen, not at each request
  /** @type {(keyof typeof kept)[]} */ const names = ["route", "key", "end", "slow"];
  const filters = names.map((name) => h("select", { id: `filter-${name}`, onchange: (/** @type {Event} */ event) => ((kept[name] = /** @type {HTMLSelectElement} */ (event.target).value), list(), (found.textContent = count.textContent)) }));
  let pending = 0;
  let told = "";

  put(
    main,
    title,
    id ? detail : h("p", { class: "lead" }, "The last 500, from memory: names and numbers, never what was said."),
    h(
      "section",
      {},
      id && h("div", { class: "head" }, h("h2", {}, "All requests"), h("a", { href: "#/requests" }, "close the one above")),
      h("div", { class: "filters" }, names.map((name, index) => labelled(name === "slow" ? "Slow" : name[0].toUpperCase() + name.slice(1), filters[index], ""))),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "List of requests" },
        h(
          "table",
          { class: "list" },
          h("caption", { class: "hidden" }, "Requests, the newest first"),
          h("thead", {}, h("tr", {}, h("th", {}, "Began"), h("th", { class: "wide" }, "Contract"), h("th", {}, "Route and target"), h("th", { class: "wide" }, h("span", { class: "hidden" }, "Course")), h("th", { class: "num wide" }, "First token"), h("th", { class: "num" }, "In all"), h("th", { class: "num wide" }, "Tokens"), h("th", {}, "End"))),
          body,
        ),
      ),
      count,
      found,
    ),
  );

  function list() {
    const rows = store.newest();
    choose(0, [...new Set(rows.map((row) => row.route).filter(Boolean))].sort());
    choose(1, [...new Set(rows.map((row) => row.key).filter(Boolean))].sort());
    choose(2, Object.keys(ENDS));
    choose(3, Object.keys(SLOW));
    const chosen = rows.filter(
      (row) => (!kept.route || row.route === kept.route) && (!kept.key || row.key === kept.key) && (!kept.end || ENDS[kept.end](row)) && (!kept.slow || SLOW[kept.slow](row)),
    );
    put(body, chosen.slice(0, SHOWN).map((row) => line(row)));
    const more = chosen.length > SHOWN ? `, the newest ${SHOWN} shown` : "";
    put(count, rows.length ? `${amount(chosen.length)} of ${amount(rows.length)}${more}` : "No request yet. ", !rows.length && h("a", { href: "#/try" }, "Send one."));
  }

  /** @param {number} index @param {string[]} values */
  function choose(index, values) {
    const filter = filters[index];
    const wanted = ["", ...values];
    if (wanted.join("\n") !== [...filter.options].map((option) => option.value).join("\n")) {
      put(filter, wanted.map((value) => h("option", { value }, value || "all")));
    }
    filter.value = kept[names[index]];
  }

  /** @param {Row} row */
  function line(row) {
    const focused = document.activeElement?.getAttribute("data-id") === row.id;
    const link = h("a", { href: `#/requests/${encodeURIComponent(row.id)}`, "data-id": row.id }, clock(row.began));
    if (focused) queueMicrotask(() => link.focus({ preventScroll: true }));
    const pieces = row.tokens ? amount(row.tokens.out) : amount(store.pieces[row.id] ?? row.pieces);
    return h(
      "tr",
      { "aria-current": row.id === id && "true" },
      h("td", {}, link),
      h("td", { class: "wide" }, row.contract || row.path),
      h("td", {}, row.route ? [row.route, " ", h("span", { class: "soft" }, `→ ${row.target || "…"}`)] : h("span", { class: "soft" }, "no route")),
      h("td", { class: "wide" }, mini(row)),
      h("td", { class: "num wide" }, duration(row.first)),
      h("td", { class: "num" }, row.ms === null ? h("span", { class: "soft" }, duration(span(row))) : duration(row.ms)),
      h("td", { class: "num wide" }, pieces),
      h("td", {}, ending(row)),
    );
  }

  async function open() {
    if (!id) return;
    const row = store.rows.get(id);
    const mark = row ? JSON.stringify([row.end, row.first, row.attempts.length]) : "";
    if (told === mark && mark) return;
    told = mark;
    try {
      const found = /** @type {Told} */ (await json(`status/requests/${encodeURIComponent(id)}`));
      put(title, found.route ? `${found.route} → ${found.target || "…"}` : "No route took it");
      put(detail, ...full(found));
    } catch (error) {
      put(detail, h("p", { class: "fault" }, error instanceof Error ? error.message : String(error)));
    }
  }

  const update = () => {
    if (pending) return;
    pending = requestAnimationFrame(() => {
      pending = 0;
      list();
      void open();
    });
  };
  const live = () => store.active > 0 && update();
  list();
  void open();
  store.addEventListener("rows", update);
  store.addEventListener("second", live);
  return () => {
    cancelAnimationFrame(pending);
    store.removeEventListener("rows", update);
    store.removeEventListener("second", live);
  };
}

/** @param {Told} row */
function full(row) {
  const said = sent(row.id);
  const tokens = row.tokens;
  /** @type {[string, any][]} */
  const facts = [
    ["Began", clock(row.began)],
    ["Contract", row.contract || "–"],
    ["Path", row.path || "–"],
    ["Key", row.key || "–"],
    ["Model asked for", row.model || "none"],
    ["Answered by", row.target || "nobody"],
    ["Status", row.status || "–"],
    ["First token", duration(row.first)],
    ["In all", row.ms === null ? "under way" : duration(row.ms)],
    ["Longest pause", row.gap ? duration(row.gap) : "–"],
    ["Tokens in, out", tokens ? `${amount(tokens.in)}, ${amount(tokens.out)}${tokens.estimated ? " (estimated)" : ""}` : "–"],
    ["Cached, reasoning", tokens ? `${amount(tokens.cached)}, ${amount(tokens.reasoning)}` : "–"],
  ];
  return [
    h("p", { class: "lead told" }, ending(/** @type {any} */ ({ ...row, error: row.error?.code })), h("span", { class: "num" }, row.ms === null ? "" : duration(row.ms)), h("span", { class: "mono" }, row.id)),
    row.error && h("p", { class: "fault", id: "words" }, row.error.message || row.error.code),
    said && h("p", { class: "row" }, h("button", { id: "replay", type: "button", onclick: () => replay(said) }, "Send again"), h("button", { id: "ask-why", type: "button", class: "quiet", onclick: () => fill(said.path, said.body) }, "Explain it")),
    h("section", { class: "card", id: "waterfall" }, h("div", { class: "head" }, h("h2", {}, "How it went")), row.attempts.length ? waterfall(/** @type {Row} */ (/** @type {unknown} */ (row))) : h("p", { class: "soft" }, "No target was asked.")),
    h("section", {}, h("div", { class: "head" }, h("h2", {}, "Why this route")), h("ol", { class: "why", id: "why" }, row.why.length ? row.why.map(reason) : h("li", {}, "It was refused before the routes were asked."))),
    row.notices.length > 0 && h("section", {}, h("div", { class: "head" }, h("h2", {}, "Notices")), h("ul", { class: "changes" }, row.notices.map((notice) => h("li", {}, notice)))),
    said && h("section", {}, h("div", { class: "head" }, h("h2", {}, "What this page said"), h("span", { class: "soft small" }, "kept in this tab only")), h("div", { class: "talk" }, [...said.messages, { role: "assistant", content: said.answered || "…" }].map(({ role, content }) => h("p", { class: `turn ${role}` }, content)))),
    h("section", {}, h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))),
  ].filter(Boolean);
}
