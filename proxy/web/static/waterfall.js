// @ts-check
/** Bars of time: how each attempt of a request went. */

import { duration, h } from "./dom.js";

/** @typedef {import("./store.js").Row} Row */
/** @typedef {import("./store.js").Attempt} Attempt */

/** How long a request took, or takes so far. @param {Row} row */
export function span(row) {
  return row.ms ?? Math.max(1, Date.now() - row.began, row.last ?? 0);
}

/**
 * A piece of a bar, from and to in milliseconds.
 * @param {string} kind @param {number} from @param {number} to @param {number} all
 */
function piece(kind, from, to, all) {
  const bar = h("i", { class: kind });
  bar.style.left = `${(Math.min(from, all) / all) * 100}%`;
  bar.style.width = `${(Math.max(0, Math.min(to, all) - from) / all) * 100}%`;
  return bar;
}

/** Whether the target is at fault: not if the client left, or another was quicker. @param {Attempt} attempt */
export function hasFailed(attempt) {
  return attempt.code !== "" && attempt.code !== "client_gone" && attempt.role !== "hedge_loser";
}

/** @param {Attempt} attempt @param {Row} row @param {number} all */
function pieces(attempt, row, all) {
  if (attempt.start === null) return [];
  const ended = attempt.ended ?? all;
  const live = attempt.ended === null && row.ms === null ? " live" : "";
  const failed = hasFailed(attempt);
  const connected = attempt.connected ?? (attempt.code && attempt.first === null ? ended : attempt.start); // some backends have no connection
  const connecting = piece("join", attempt.start, connected, all);
  if (attempt.first === null) return [connecting, piece(failed ? "fail" : `wait${live}`, failed ? Math.min(connected, ended - all / 60) : connected, ended, all)];
  return [
    connecting,
    piece("wait", connected, attempt.first, all),
    piece(`flow${live}`, attempt.first, ended, all),
    ...(failed ? [piece("fail", ended - all / 60, ended, all)] : []),
  ];
}

/** All attempts of a request in one small bar. @param {Row} row */
export function mini(row) {
  const all = span(row);
  return h("span", { class: "mini", "aria-hidden": "true" }, row.attempts.flatMap((attempt) => pieces(attempt, row, all)));
}

/** A bar for each attempt, with its words. @param {Row} row */
export function waterfall(row) {
  const all = span(row);
  const attempts = row.attempts.map((attempt) =>
    h(
      "li",
      {},
      h("div", { class: "who" }, h("span", { class: "mono" }, attempt.target), verdict(attempt, row)),
      h("div", { class: "track", "aria-hidden": "true" }, pieces(attempt, row, all)),
      h("p", { class: "small soft num" }, story(attempt, row)),
      attempt.words && h("p", { class: "small bad" }, attempt.words),
    ),
  );
  return h(
    "div",
    { class: "waterfall" },
    h("ol", { class: "fall" }, attempts),
    h("p", { class: "axis", "aria-hidden": "true" }, [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, part ? duration(all * part) : "0"))),
    h("p", { class: "legend", "aria-hidden": "true" }, h("span", { class: "j" }, "connecting"), h("span", {}, "waiting for the first token"), h("span", { class: "f" }, "streaming"), h("span", { class: "x" }, "failed")),
  );
}

/** @param {Attempt} attempt @param {Row} row */
function verdict(attempt, row) {
  if (attempt.start === null) return h("span", { class: "slow" }, `passed over: ${attempt.code.replaceAll("_", " ")}`);
  if (attempt.ended === null && row.ms === null) return h("span", { class: "soft" }, attempt.first === null ? "waiting" : "streaming");
  if (attempt.role === "hedge_loser") return h("span", { class: "soft" }, "another was quicker");
  if (attempt.code === "client_gone") return h("span", { class: "slow" }, "stopped by the client");
  if (attempt.code) return h("span", { class: "bad" }, `${attempt.status} ${attempt.code}`);
  return h("span", { class: "good" }, "answered");
}

/** An attempt in words: what the bars show, for those who do not see them too. @param {Attempt} attempt @param {Row} row */
function story(attempt, row) {
  if (attempt.start === null) return "not asked, as others could be";
  const told = [`asked at ${duration(attempt.start)}`];
  if (attempt.connected !== null) told.push(`connected after ${duration(attempt.connected - attempt.start)}`);
  if (attempt.first !== null) {
    told.push(`first token after ${duration(attempt.first - attempt.start)}`);
    if (attempt.ended !== null) told.push(`streamed for ${duration(attempt.ended - attempt.first)}`);
    if (row.gap > 0 && attempt === row.attempts.at(-1)) told.push(`longest pause ${duration(row.gap)}`);
  } else if (attempt.ended !== null) {
    told.push(`over after ${duration(attempt.ended - attempt.start)}, without a ${attempt.connected === null ? "connection" : "token"}`);
  }
  return told.join(" · ");
}
