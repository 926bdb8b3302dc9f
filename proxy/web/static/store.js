// @ts-check
/** What the page knows: the key, the requests, the counts and the status, kept up to date by the events. */

import { frames } from "./sse.js";

/** @typedef {{target: string, start: number | null, connected: number | null, first: number | null, ended: number | null, role: string, status: number, code: string, words: string}} Attempt */
/** @typedef {{in: number, out: number, cached: number, reasoning: number, estimated: boolean}} Tokens */
/**
 * @typedef {{id: string, began: number, contract: string, path: string, key: string, route: string, target: string, model: string,
 *   stream: boolean, status: number, end: string | null, error: string, first: number | null, last: number | null, ms: number | null,
 *   gap: number, pieces: number, tokens: Tokens | null, notices: string[], attempts: Attempt[]}} Row
 */
/**
 * @typedef {{version: string, status: string, active: number,
 *   config: {file: string, generation: number, digest: string, loaded_at: number, rejected: string[] | null, changed: string[]},
 *   circuits_open: Record<string, number>, frontends: Record<string, string[]>, backends: Record<string, {on: boolean, why?: string}>,
 *   routes: {name: string, to: string[]}[], workers?: {worker: number, pid: number, state: string, active: number}[] | null}} Status
 */

const MOST = 500;
const SAMPLES = 120;

/** @typedef {{contract: string, model: string, messages: {role: string, content: string}[], path: string, body: any, answered: string}} Sent */

/** What was sent and received by this page itself, by request id: only that has contents. @type {Map<string, Sent>} */
const own = new Map();

/** @param {string} id */
export const sent = (id) => own.get(id);

/** @param {string} id @param {Sent} what */
export function keep(id, what) {
  own.set(id, what);
  if (own.size > MOST) own.delete(/** @type {string} */ (own.keys().next().value));
}

class Store extends EventTarget {
  /** @type {Map<string, Row>} */ rows = new Map();
  /** @type {Status | null} */ status = null;
  /** @type {Record<string, number>} */ pieces = {};
  /** @type {number[]} tokens in each of the last seconds */ rate = [];
  /** @type {number[]} streams that were active in each of the last seconds */ flow = [];
  active = 0;
  /** @type {"connecting" | "live" | "lost" | "key" | "refused"} */ state = "connecting";
  words = "";
  #tokens = -1;
  #counted = -1;

  /** @param {string} name */
  #changed(name) {
    this.dispatchEvent(new Event(name));
  }

  /** @param {Store["state"]} state @param {string} [words] */
  #became(state, words = "") {
    if (state === this.state && words === this.words) return;
    this.state = state;
    this.words = words;
    this.#changed("state");
  }

  /** The rows, the newest first. */
  newest() {
    return [...this.rows.values()].sort((one, other) => other.began - one.began);
  }

  /** Follow the events for as long as the page is open. */
  async follow() {
    setInterval(() => this.#second(), 1000);
    for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
      try {
        const response = await ask("status/events");
        if (response.status === 401 || response.status === 403) {
          this.#became(response.status === 401 ? "key" : "refused", await problem(response));
          await new Promise((resolve) => this.addEventListener("key", resolve, { once: true }));
          pause = 500;
          continue;
        }
        if (!response.ok) throw new Error(await problem(response));
        for await (const events of frames(response)) {
          pause = 500;
          for (const { name, data } of events) if (data) this.#take(name, JSON.parse(data));
          this.#became("live");
        }
      } catch {
        // the proxy is away, or stops: it is asked again
      }
      this.#became("lost");
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** @param {string} name @param {any} data */
  #take(name, data) {
    if (name === "status") {
      this.status = data;
      this.#changed("status");
    } else if (name === "snapshot" || name === "requests") {
      if (name === "snapshot") {
        this.rows.clear();
        this.#tokens = -1;
      }
      for (const row of /** @type {Row[]} */ (data)) this.rows.set(row.id, row);
      if (this.rows.size > MOST * 1.2) for (const row of this.newest().slice(MOST)) this.rows.delete(row.id);
      this.#changed("rows");
    } else if (name === "now") {
      this.active = data.active;
      this.pieces = data.pieces;
      this.#tokens = data.tokens;
      this.#changed("now");
    }
  }

  #second() {
    if (this.#tokens >= 0) {
      this.rate.push(this.#counted >= 0 ? Math.max(0, this.#tokens - this.#counted) : 0);
      this.flow.push(this.active);
      for (const line of [this.rate, this.flow]) if (line.length > SAMPLES) line.shift();
      this.#counted = this.#tokens;
    }
    this.#changed("second");
  }

  /** @param {string} key */
  useKey(key) {
    sessionStorage.setItem("key", key);
    this.#became("connecting");
    this.#changed("key");
  }
}

export const store = new Store();

/** The headers that carry the key, if there is one. @returns {Record<string, string>} */
export function keyHeaders() {
  const key = sessionStorage.getItem("key");
  return key ? { authorization: `Bearer ${key}` } : {};
}

/**
 * Ask the proxy that this page came from, below whatever path it is served.
 * @param {string} path
 * @param {unknown} [body]
 */
export function ask(path, body) {
  const headers = { ...keyHeaders(), ...(body === undefined ? {} : { "content-type": "application/json" }) };
  const asked = fetch(path, { method: body === undefined ? "GET" : "POST", headers, body: body === undefined ? null : JSON.stringify(body), cache: "no-store" });
  return asked.catch(() => {
    throw new Error("The proxy does not answer."); // each browser has other words for it
  });
}

/**
 * The same, for an answer in JSON. Throws an error in the proxy's words, with its status.
 * @param {string} path
 * @param {unknown} [body]
 */
export async function json(path, body) {
  const response = await ask(path, body);
  if (!response.ok) throw Object.assign(new Error(await problem(response)), { status: response.status });
  return response.json().catch(() => {
    throw new Error(foreign(response));
  });
}

/** @param {Response} response */
const foreign = ({ status }) => `Something in front of the proxy answered, with status ${status} and no words for this page.`;

/** What an error says, in whichever contract's form. @param {Response} response */
export async function problem(response) {
  const text = await response.text();
  try {
    const { error, detail, message } = JSON.parse(text);
    const words = error?.message ?? error ?? message ?? detail;
    if (typeof words === "string") return words;
  } catch {
    // it is no JSON: its text says it, if it is meant for people
  }
  return /^\s*(<|$)/.test(text) ? foreign(response) : text.trim().slice(0, 500);
}
