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
const KINDS = ["", "num", "num wide", "num wide", "num"]; // of columns: on a narrow screen the sums above tell the tokens

/** How far back, and in how many days. @type {Record<string, [string, number]>} */
const TIMES = { "7d": ["7 days", 7], "30d": ["30 days", 30], "52w": ["a year", 364] };

/** @param {HTMLElement} main */
export function usageView(main) {
  const by = h("select", { onchange: () => show() }, GROUPS.map((name) => h("option", { value: name }, name)));
  const since = h("select", { onchange: () => show() }, Object.entries(TIMES).map(([value, [name]]) => h("option", { value }, name)));
  const result = h("div", { id: "usage", class: "flow" });
  let newest = 0;

  async function show() {
    const number = ++newest;
    const from = `since=${since.value}`;
    try {
      const [groups, days] = /** @type {Report[]} */ (await Promise.all([json(`usage?by=${by.value}&${from}`), json(`usage?by=day&${from}`)]));
      if (number === newest) put(result, told(/** @type {Report} */ (groups), everyDay(/** @type {Report} */ (days), TIMES[since.value][1]), by.value));
    } catch (error) {
      const { message, status } = /** @type {Error & {status?: number}} */ (error);
      if (number === newest) put(result, h("p", { class: status === 404 ? "note" : "fault" }, message));
    }
  }

  put(main, h("h1", {}, "Usage"), h("p", { class: "lead" }, "Who used what, and what it cost. Days are those of UTC."), h("div", { class: "row" }, labelled("By", by), labelled("Of the last", since)), h("section", {}, result));
  void show();
  return () => void (newest = -1);
}

/** What each day used, the oldest first; the ledger tells only of days that used something. @param {Report} report @param {number} count */
function everyDay({ groups }, count) {
  const known = new Map(groups.map((one) => [one.day, one]));
  const dates = Array.from({ length: count + 1 }, (_, ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10)).reverse();
  return dates.map((date) => known.get(date) ?? { cost_usd: 0, input_tokens: 0, output_tokens: 0, requests: 0 });
}

/** @param {Report} report @param {Pick<Sums, "cost_usd" | "input_tokens" | "output_tokens" | "requests">[]} days @param {string} by */
function told({ groups, total }, days, by) {
  const head = [`${by[0]?.toUpperCase()}${by.slice(1)}`, "Requests", "Tokens in", "Tokens out", "Cost"];
  const lines = groups.map((one) => row(one[by] || "none", one));
  return [
    h("div", { class: "meters" }, meter("Cost", cost(total), "cost by day", days.map((day) => day.cost_usd)), meter("Tokens", tokens(total, total.input_tokens + total.output_tokens), "tokens by day", days.map((day) => day.input_tokens + day.output_tokens)), meter("Requests", amount(total.requests), "requests by day", days.map((day) => day.requests))),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Usage" }, h("table", { class: "list sums" }, h("caption", { class: "hidden" }, `Usage by ${by}`), h("thead", {}, h("tr", {}, head.map((name, index) => h("th", { class: KINDS[index] }, name)))), h("tbody", {}, lines), h("tfoot", {}, row("Total", total)))),
  ];
}

/** @param {string} name @param {Sums} sums */
function row(name, sums) {
  return h("tr", {}, h("td", {}, name), [amount(sums.requests), tokens(sums, sums.input_tokens), tokens(sums, sums.output_tokens), cost(sums)].map((text, index) => h("td", { class: KINDS[index + 1] }, text)));
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
