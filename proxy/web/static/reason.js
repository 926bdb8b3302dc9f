// @ts-check
/** A line of a trace: which rule, and what it says of the request. */

import { h } from "./dom.js";

/** @param {string} line */
export function reason(line) {
  const colon = line.indexOf(": ");
  const taken = line.endsWith(": takes it");
  return h("li", { class: taken ? "yes" : line.startsWith("refused") ? "no" : "" }, h("span", {}, h("b", {}, line.slice(0, colon)), line.slice(colon)));
}
