// @ts-check
/** Usage: who used what, from the ledger. */

import { amount, h, labelled, put, sparkline } from "./dom.js";
import { json } from "./store.js";

/**
 * @typedef {{requests: number, attempts: number, input_tokens: number, output_tokens: number, cost_usd: number | null,
 *   unknown: number, unpriced: number, at_least: {tokens: boolean, cost: boolean}}} Sums
 * @typedef {{groups: (Sums & Record<string, any>)[], total: Sums}} Report
 */

const GROUPS = ["key", "model", "user", "route", "backend", "contract", "end", "day", "month"];
const TIMES = { "7d": "7 days", "30d": "30 days", "52w": "a year" };

/** @param {HTMLElement} main */
export function usageView(main) {
  const by = h("select", { onchange: () => show() }, GROUPS.map((name) => h("option", { value: name }, name)));
  const since = h("select", { onchange: () => show() }, Object.entries(TIMES).map(([value, name]) => h("option", { value }, name)));
  const result = h("div", { id: "usage", class: "flow" });
  let newest = 0;

  async function show() {
    const number = ++newest;
    const from = `since=${since.value}`;
    try {
      const [groups, days] = /** @type {Report[]} */ (await Promise.all([json(`usage?by=${by.value}&${from}`), json(`usage?by=day&${from}`)]));
      if (number === newest) put(result, told(/** @type {Report} */ (groups), /** @type {Report} */ (days), by.value));
    } catch (error) {
      if (number === newest) put(result, h("p", { class: "fault" }, /** @type {Error} */ (error).message));
    }
  }

  put(main, h("h1", {}, "Usage"), h("p", { class: "lead" }, "Who used what, and what it cost. Days are those of UTC."), h("div", { class: "row" }, labelled("By", by), labelled("Of the last", since)), h("section", {}, result));
  void show();
  return () => void (newest = -1);
}

/** @param {Report} report @param {Report} days @param {string} by */
function told({ groups, total }, days, by) {
  const head = [by, "Requests", "Tokens in", "Tokens out", "Cost"];
  const lines = [...groups.map((one) => row(one[by] || "none", one)), row("total", total)];
  return [
    h("div", { class: "meters" }, meter("Cost", cost(total), "cost by day", days.groups.map((day) => day.cost_usd)), meter("Tokens", tokens(total, total.input_tokens + total.output_tokens), "tokens by day", days.groups.map((day) => day.input_tokens + day.output_tokens)), meter("Requests", amount(total.requests), "requests by day", days.groups.map((day) => day.requests))),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Usage" }, h("table", { class: "list" }, h("caption", { class: "hidden" }, `Usage by ${by}`), h("thead", {}, h("tr", {}, head.map((name, index) => h("th", { class: index ? "num" : "" }, name)))), h("tbody", {}, lines))),
  ];
}

/** @param {string} name @param {Sums} sums */
function row(name, sums) {
  return h("tr", {}, h("td", {}, name), [amount(sums.requests), tokens(sums, sums.input_tokens), tokens(sums, sums.output_tokens), cost(sums)].map((text) => h("td", { class: "num" }, text)));
}

/** @param {string} name @param {string} value @param {string} label @param {(number | null)[]} values */
function meter(name, value, label, values) {
  return h("div", { class: "meter" }, h("h2", {}, name), h("p", { class: "value" }, value), /** @type {any} */ (sparkline(label, values)));
}

/** @param {Sums} sums @param {number} count */
function tokens(sums, count) {
  return `${sums.at_least.tokens ? "at least " : ""}${amount(count)}`;
}

/** What is not known is not zero. @param {Sums} sums */
function cost({ cost_usd: usd, attempts, at_least }) {
  if (usd === null) return attempts ? "unknown" : "$0";
  return `${at_least.cost ? "at least " : ""}$${usd >= 1 || !usd ? usd.toFixed(2) : usd.toPrecision(3)}`;
}
