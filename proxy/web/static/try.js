// @ts-check
/** Try: a conversation over any contract, with the frames beside it as they come, and the same request to take home. */

import { CONTRACTS, declaredContract } from "./contracts.js";
import { amount, duration, h, labelled, put } from "./dom.js";
import { SNIPPETS } from "./snippets.js";
import { frames } from "./sse.js";
import { json, keyHeaders, own, problem, store } from "./store.js";

/** @typedef {import("./contracts.js").Message} Message */
/** @typedef {import("./contracts.js").Contract} Contract */

const MOST_FRAMES = 2000;

/** What outlives a change of the view. */
const kept = {
  contract: "chat",
  model: "",
  text: "",
  snippet: "curl",
  /** @type {Message[]} */ messages: [],
  /** @type {string[]} */ models: [],
  /** @type {Record<string, {path: string, body: any, token: any}>} */ declared: {},
};

/** @param {HTMLElement} main */
export function tryView(main) {
  /** @type {AbortController | null} */ let running = null;
  const talk = h("div", { class: "talk", role: "log", "aria-label": "Conversation" });
  const outcome = h("p", { class: "outcome num", role: "status" });
  const wire = h("ol", { class: "wire", tabindex: "0", "aria-label": "Frames as they come" });
  const contract = h("select", { id: "contract", onchange: () => ((kept.contract = contract.value), snippets()) });
  const names = h("datalist", { id: "models" });
  const model = h("input", { id: "model", list: "models", autocomplete: "off", spellcheck: "false", placeholder: "the route decides", oninput: () => ((kept.model = model.value.trim()), snippets()) });
  const text = h("textarea", { id: "text", rows: "3", placeholder: "Say something. Enter sends it, Shift + Enter is a new line.", oninput: () => ((kept.text = text.value), snippets()) });
  const send = h("button", { id: "send", type: "submit" }, "Send");
  const again = h("button", { id: "again", type: "button", class: "quiet", onclick: () => void repeat() }, "Again");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => ((kept.messages = []), show()) }, "Clear");
  const picks = h("div", { class: "pick", role: "group", "aria-label": "For" });
  const code = h("pre", { tabindex: "0", "aria-label": "To copy" });
  const copy = h("button", { type: "button", class: "quiet", onclick: () => void copied() }, "Copy");
  const form = h("form", { class: "flow", onsubmit: submit }, labelled("Message", text, ""), h("p", { class: "row" }, send, again, clear), outcome);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  put(
    main,
    h("h1", {}, "Try it"),
    h("p", { class: "lead" }, "Speak any contract to any model. Beside the text is what really comes over the wire, with the time since you asked."),
    h("div", { class: "row" }, labelled("Contract", contract), labelled("Model", model), names),
    h("div", { class: "split", id: "talk-and-wire" }, h("section", { "aria-label": "Chat" }, talk, form), h("section", { "aria-label": "Wire" }, wire)),
    h("section", {}, h("div", { class: "head" }, h("h2", {}, "Take it home")), h("div", { class: "snippets" }, picks, h("div", { class: "code" }, code, copy))),
  );
  text.value = kept.text;
  model.value = kept.model;
  show();
  contracts();
  void learn();
  const update = () => contracts();
  store.addEventListener("status", update);
  return () => {
    running?.abort();
    store.removeEventListener("status", update);
  };

  /** @returns {Record<string, Contract>} */
  function offered() {
    const served = Object.keys(store.status?.frontends ?? {});
    const all = { ...CONTRACTS, ...Object.fromEntries(Object.entries(kept.declared).map(([name, one]) => [name, declaredContract(one)])) };
    return served.length ? Object.fromEntries(Object.entries(all).filter(([name]) => served.includes(name))) : all;
  }

  function contracts() {
    const known = Object.keys(offered());
    if (!known.includes(kept.contract)) kept.contract = known[0] ?? "chat";
    if (known.join() !== [...contract.options].map((option) => option.value).join()) {
      put(contract, known.map((name) => h("option", { value: name }, name in CONTRACTS ? `${name}   /${CONTRACTS[name].path}` : `${name}   declared`)));
    }
    contract.value = kept.contract;
    put(names, kept.models.map((name) => h("option", { value: name })));
    snippets();
  }

  /** What can be asked for, where this key may know it. */
  async function learn() {
    const [models, config] = await Promise.allSettled([json("v1/models"), json("status/config")]);
    if (models.status === "fulfilled") kept.models = models.value.data.map((/** @type {{id: string}} */ one) => one.id);
    if (config.status === "fulfilled") kept.declared = config.value.declared;
    contracts();
  }

  function show() {
    put(talk, kept.messages.length ? kept.messages.map(({ role, content }) => h("p", { class: `turn ${role}` }, content)) : h("p", { class: "empty" }, "Nothing said yet."));
    again.hidden = clear.hidden = !kept.messages.length || running !== null;
    if (!wire.childElementCount) put(wire, h("li", { class: "empty" }, "The frames of the answer appear here."));
  }

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    if (running) return running.abort();
    const content = text.value.trim();
    if (!content) return text.focus();
    kept.messages.push({ role: "user", content });
    text.value = kept.text = "";
    void answer();
  }

  async function repeat() {
    if (kept.messages.at(-1)?.role === "assistant") kept.messages.pop();
    if (kept.messages.length) await answer();
  }

  async function answer() {
    const spoken = offered()[kept.contract];
    const body = spoken.body(kept.messages, kept.model);
    const stopping = (running = new AbortController());
    const began = performance.now();
    const since = () => performance.now() - began;
    let first = 0;
    let count = 0;
    let said = "";
    let id = "";
    let end = { class: "good", words: "done" };
    let finished = false;
    show();
    put(wire);
    send.textContent = "Stop";
    outcome.textContent = "asking …";
    const words = document.createTextNode("");
    const turn = h("p", { class: "turn assistant" }, words, h("span", { class: "caret" }));
    talk.append(turn);
    talk.setAttribute("aria-busy", "true"); // read out when it is whole
    /** @param {string} raw */
    const frame = (raw) => {
      if (++count > MOST_FRAMES) return;
      const bottom = wire.scrollHeight - wire.scrollTop - wire.clientHeight < 40;
      wire.append(h("li", {}, h("time", {}, `+${duration(since())}`), h("code", {}, raw)));
      if (bottom) wire.scrollTop = wire.scrollHeight;
    };
    try {
      const response = await fetch(spoken.path, {
        method: "POST",
        headers: { "content-type": "application/json", ...keyHeaders() },
        body: JSON.stringify(body),
        signal: stopping.signal,
      });
      id = response.headers.get("x-request-id") ?? "";
      frame(`HTTP ${response.status}  ${response.headers.get("content-type") ?? ""}`);
      if (!response.ok) {
        const why = await problem(response);
        frame(why);
        end = { class: "bad", words: `${response.status}: ${why}` };
        finished = true;
      } else {
        for await (const found of frames(response)) {
          for (const one of found) {
            frame(one.raw);
            const piece = spoken.read(one);
            if (piece.text) {
              first ||= since();
              said += piece.text;
            }
            if (piece.error) end = { class: "bad", words: piece.error };
            finished ||= Boolean(piece.done || piece.error);
          }
          words.data = said;
        }
        if (spoken.says && !finished) end = { class: "bad", words: "cut off: the answer ended without its end" };
      }
    } catch (error) {
      end = stopping.signal.aborted ? { class: "slow", words: "stopped" } : { class: "bad", words: `cut off: ${error instanceof Error ? error.message : error}` };
    }
    const took = since();
    running = null;
    send.textContent = "Send";
    if (said) kept.messages.push({ role: "assistant", content: said });
    if (id) own.set(id, { asked: kept.messages.findLast((one) => one.role === "user")?.content ?? "", answered: said });
    if (!wire.isConnected) return;
    talk.removeAttribute("aria-busy");
    show();
    put(
      outcome,
      h("span", { class: end.class }, end.words),
      first ? ` · first text after ${duration(first)}` : "",
      ` · ${duration(took)} · ${amount(count)} frames · `,
      id && h("a", { href: `#/requests/${encodeURIComponent(id)}` }, end.class === "good" ? "see how it was answered" : "see what happened"),
    );
  }

  function snippets() {
    const spoken = offered()[kept.contract] ?? CONTRACTS.chat;
    const said = kept.text.trim() || kept.messages.findLast((one) => one.role === "user")?.content || "Hello";
    const ask = {
      base: new URL(".", location.href).href.replace(/\/$/, ""),
      path: spoken.path,
      body: spoken.body([{ role: "user", content: said }], kept.model),
      model: kept.model || kept.models[0] || "MODEL",
      text: said,
      needsKey: sessionStorage.getItem("key") !== null,
    };
    put(
      picks,
      Object.keys(SNIPPETS).map((name) => h("button", { type: "button", "aria-pressed": String(name === kept.snippet), "data-snippet": name, onclick: () => ((kept.snippet = name), snippets(), picked(name)) }, name)),
    );
    code.textContent = SNIPPETS[kept.snippet](ask);
  }

  /** @param {string} name */
  function picked(name) {
    /** @type {HTMLElement | null} */ (picks.querySelector(`[data-snippet="${name}"]`))?.focus();
  }

  async function copied() {
    try {
      await navigator.clipboard.writeText(code.textContent ?? "");
      copy.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(code); // over plain HTTP a page may not write to the clipboard
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  }
}
