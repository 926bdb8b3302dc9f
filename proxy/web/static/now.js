// @ts-check
/** Now: what flows, how fast, to whom, and by which config. */

import { amount, clock, counted, duration, h, percentile, put, sparkline } from "./dom.js";
import { json, store } from "./store.js";
import { hasFailed } from "./waterfall.js";

const WINDOW_MS = 600_000;
const GROUPS = 40;

/** @param {HTMLElement} main */
export function nowView(main) {
  const config = h("div", { id: "config" });
  const meters = h("div", { class: "meters" });
  const targets = h("tbody", { id: "targets" });
  const workers = h("p", { class: "soft small num" });
  let models = /** @type {string[]} */ ([]);
  let lines = /** @type {string[]} */ ([]);
  let shown = "";

  put(
    main,
    h("h1", {}, "Now"),
    h("p", { class: "lead" }, "What flows at this moment, and how the last ten minutes went."),
    config,
    meters,
    h(
      "section",
      {},
      h("div", { class: "head" }, h("h2", {}, "Targets"), workers),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Targets" },
        h(
          "table",
          { class: "list" },
          h("caption", { class: "hidden" }, "Targets and how they do"),
          h("thead", {}, h("tr", {}, h("th", {}, "Target"), h("th", {}, "Health"), h("th", { class: "num" }, "Asked"), h("th", { class: "num wide" }, "Failed"), h("th", { class: "num wide" }, "First token, median"), h("th", { class: "wide" }, "In routes"))),
          targets,
        ),
      ),
    ),
    h("section", {}, h("div", { class: "head" }, h("h2", {}, "Models that can be asked for")), h("p", { id: "models-now", class: "mono" })),
  );

  function numbers() {
    const now = Date.now();
    const rows = store.newest().filter((row) => now - row.began < WINDOW_MS);
    const rate = store.rate.slice(-3);
    const perSecond = rate.length ? rate.reduce((sum, value) => sum + value, 0) / rate.length : 0;
    put(
      meters,
      meter("Active streams", amount(store.active), "", sparkline("active streams, over two minutes", store.flow), `${counted(rows.length, "request")} in ten minutes`),
      meter("Tokens a second", amount(perSecond), "", sparkline("tokens a second, over two minutes", store.rate), "over the last two minutes"),
      times("First token", rows.filter((row) => row.first !== null), (row) => /** @type {number} */ (row.first)),
      times("Longest pause in an answer", rows.filter((row) => row.pieces > 1), (row) => row.gap),
    );
  }

  /**
   * @param {string} name
   * @param {import("./store.js").Row[]} rows
   * @param {(row: import("./store.js").Row) => number} of
   */
  function times(name, rows, of) {
    const half = percentile(rows.map(of), 0.5);
    const most = percentile(rows.map(of), 0.95);
    const inGroups = groups(rows);
    const picture = sparkline(
      `${name}: median ${duration(half)}, 95th percentile ${duration(most)}`,
      inGroups.map((some) => percentile(some.map(of), 0.5)),
      inGroups.map((some) => percentile(some.map(of), 0.95)),
    );
    const [value, unit] = duration(half).split(/ (?=\S+$)/);
    return meter(name, value, unit ?? "", picture, rows.length ? `median; 95 % are under ${duration(most)}` : "none in ten minutes");
  }

  function backends() {
    const status = store.status;
    if (!status) return;
    const now = Date.now();
    const attempts = store.newest().filter((row) => now - row.began < WINDOW_MS).flatMap((row) => row.attempts);
    const named = new Map(/** @type {[string, string[]][]} */ (status.routes.flatMap((route) => route.to.map((target) => [target, []]))));
    for (const route of status.routes) for (const target of route.to) named.get(target)?.push(route.name);
    for (const attempt of attempts) if (!named.has(attempt.target)) named.set(attempt.target, []);
    put(
      targets,
      [...named].map(([target, routes]) => {
        const backend = status.backends[target.split("/")[0]];
        const tried = attempts.filter((attempt) => attempt.target === target && attempt.start !== null);
        const failed = tried.filter(hasFailed);
        const firsts = tried.filter((attempt) => attempt.first !== null).map((attempt) => /** @type {number} */ (attempt.first) - /** @type {number} */ (attempt.start));
        const open = status.circuits_open[target];
        const health = !backend?.on
          ? h("span", { class: "soft" }, `off: ${backend?.why ?? "not configured"}`)
          : open !== undefined
            ? h("span", { class: "bad" }, `held back, tried again in ${duration(open * 1000)}`)
            : failed.length
              ? h("span", { class: "slow" }, `fails ${Math.round((failed.length / tried.length) * 100)} %`)
              : tried.length
                ? h("span", { class: "good" }, "healthy")
                : h("span", { class: "soft" }, "not asked lately");
        return h(
          "tr",
          {},
          h("td", { class: "mono" }, target),
          h("td", { class: "words" }, health),
          h("td", { class: "num" }, amount(tried.length)),
          h("td", { class: "num wide" }, amount(failed.length)),
          h("td", { class: "num wide" }, duration(percentile(firsts, 0.5))),
          h("td", { class: "wide soft" }, routes.join(", ")),
        );
      }),
    );
    const serving = status.workers?.filter((one) => one.state === "serving").length;
    put(workers, serving ? counted(serving, "worker") : "");
  }

  /** Drawn when there is something new in it, as the focus may be inside. */
  function configured() {
    const status = store.status;
    if (!status) return;
    const mark = JSON.stringify([status.config.generation, status.config.rejected]);
    if (mark === shown) return;
    shown = mark;
    draw(status);
    void learn();
  }

  /** @param {import("./store.js").Status} status */
  function draw(status) {
    const { file, generation, digest, loaded_at, rejected, changed } = status.config;
    put(
      config,
      rejected && refused(file, rejected),
      h(
        "p",
        { class: "note" },
        h("b", {}, `${file}, generation ${generation}`),
        h("span", { class: "soft" }, `  in force since ${clock(loaded_at * 1000)}, digest ${digest.slice(0, 8)}`),
        changed.length > 0 && h("ul", { class: "changes small" }, changed.map((change) => h("li", {}, change))),
      ),
    );
  }

  /** @param {string} file @param {string[]} errors */
  function refused(file, errors) {
    return h(
      "div",
      { class: "fault", id: "rejected" },
      h("b", {}, `${file} was changed and is not taken up. `),
      "The config before it goes on serving.",
      h(
        "ul",
        {},
        errors.map((error) => {
          const found = /^(.*?):(\d+):(\d+): (.*)$/s.exec(error);
          return found ? h("li", {}, h("b", { class: "num" }, `line ${found[2]}: `), found[4], excerpt(Number(found[2]))) : h("li", {}, error);
        }),
      ),
    );
  }

  /** The lines around one, where the file can be shown. @param {number} line */
  function excerpt(line) {
    if (lines.length < line) return null;
    const first = Math.max(1, line - 2);
    const around = lines.slice(first - 1, line + 1);
    return h("div", { class: "lines", tabindex: "0", role: "region", "aria-label": `Around line ${line}` }, around.map((text, index) => h("div", { class: first + index === line ? "wrong" : "" }, h("span", {}, first + index), text || " ")));
  }

  async function learn() {
    const [found, text] = await Promise.allSettled([json("v1/models"), json("status/config")]);
    if (found.status === "fulfilled") models = found.value.data.map((/** @type {{id: string}} */ one) => one.id);
    lines = text.status === "fulfilled" && text.value.config ? text.value.config.split("\n") : [];
    put(/** @type {Element} */ (main.querySelector("#models-now")), models.join("  ·  ") || "none by name");
    if (store.status) draw(store.status);
  }

  const second = () => (numbers(), backends());
  const told = () => (configured(), backends());
  second();
  told();
  store.addEventListener("second", second);
  store.addEventListener("rows", second);
  store.addEventListener("status", told);
  return () => {
    store.removeEventListener("second", second);
    store.removeEventListener("rows", second);
    store.removeEventListener("status", told);
  };
}

/**
 * @param {string} name @param {string} value @param {string} unit
 * @param {Element} picture @param {string} words
 */
function meter(name, value, unit, picture, words) {
  return h("div", { class: "meter" }, h("h2", {}, name), h("p", { class: "value" }, value, unit && h("small", {}, unit)), picture, h("p", { class: "small soft" }, words));
}

/**
 * The rows in groups of the same size, the oldest first.
 * @param {import("./store.js").Row[]} rows the newest first
 */
function groups(rows) {
  const size = Math.max(1, Math.ceil(rows.length / GROUPS));
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, index) => rows.slice(index * size, (index + 1) * size)).reverse();
}
