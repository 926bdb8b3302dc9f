// @ts-check
/** Try: a conversation over any contract, with the frames beside it as they come, and the same request to take home. */

import { CONTRACTS, declaredContract } from "./contracts.js";
import { amount, duration, h, labelled, put } from "./dom.js";
import { SNIPPETS } from "./snippets.js";
import { frames } from "./sse.js";
import { json, keep, keyHeaders, problem, store } from "./store.js";

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
  replays: false,
};

/** Go there, and send a request again. @param {import("./store.js").Sent} sent */
export function replay({ contract, model, messages }) {
  Object.assign(kept, { contract, model, messages: [...messages], replays: true });
  location.hash = "#/try";
}

/** @param {HTMLElement} main */
export function tryView(main) {
  /** @type {AbortController | null} */ let running = null;
  const talk = h("div", { class: "talk", role: "log", "aria-label": "Conversation" });
  const outcome = h("p", { class: "outcome num", role: "status" });
  const wire = h("ol", { class: "wire", tabindex: "0", "aria-label": "Frames as they come" });
  const contract = h("select", { id: "contract", onchange: () => ((kept.contract = contract.value), snippets()) });
  const names = h("datalist", { id: "models" });
  const model = h("input", { id: "model", list: "models", autocomplete: "off", spellcheck: "false", placeholder: "the route decides", oninput: () => ((kept.model = model.value.trim()), snippets()) });
  const text = h("textarea", { id: "text", rows: "3", placeholder: "Say something. Enter sends it, Shift + Enter is a new line, Escape stops the answer.", oninput: () => ((kept.text = text.value), snippets()) });
  const send = h("button", { id: "send", type: "submit" }, "Send");
  const again = h("button", { id: "again", type: "button", class: "quiet", onclick: repeat }, "Again");
  const clear = h("button", { type: "button", class: "quiet", onclick: () => ((kept.messages = []), show(), text.focus()) }, "Clear");
  const code = h("pre", { id: "snippet", tabindex: "0", role: "tabpanel" });
  const tabs = Object.keys(SNIPPETS).map((name, index) => h("button", { id: `for-${index}`, type: "button", role: "tab", "aria-controls": "snippet", onclick: () => pick(index) }, name));
  const picks = h("div", { class: "pick", role: "tablist", "aria-label": "The same request for", onkeydown: turn }, tabs);
  const copy = h("button", { type: "button", class: "quiet", "aria-live": "polite", onclick: () => void copied() }, "Copy");
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
    h("div", { class: "split", id: "talk-and-wire", onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && running?.abort() }, h("section", { "aria-label": "Chat" }, talk, form), h("section", { "aria-label": "Wire" }, wire)),
    h("section", {}, h("div", { class: "head" }, h("h2", {}, "Take it home")), h("div", { class: "snippets" }, picks, h("div", { class: "code" }, code, copy))),
  );
  text.value = kept.text;
  model.value = kept.model;
  show();
  const wanted = kept.contract;
  contracts();
  if (kept.replays && kept.contract === wanted) void answer();
  else if (kept.replays) outcome.textContent = `not sent: ${wanted} is not served any more`;
  kept.replays = false;
  void learn();
  store.addEventListener("status", contracts);
  return () => {
    running?.abort();
    store.removeEventListener("status", contracts);
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

  function repeat() {
    if (kept.messages.at(-1)?.role === "assistant") kept.messages.pop();
    send.focus(); // where it stops: the one that was pressed is hidden now
    if (kept.messages.length) void answer();
  }

  async function answer() {
    const spoken = offered()[kept.contract];
    const messages = [...kept.messages];
    const sent = { contract: kept.contract, model: kept.model, messages, path: spoken.path, body: spoken.body(messages, kept.model) };
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
        body: JSON.stringify(sent.body),
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
        if (spoken.hasEnd && !finished) end = { class: "bad", words: "cut off: the answer ended without its end" };
      }
    } catch (error) {
      end = stopping.signal.aborted ? { class: "slow", words: "stopped" } : { class: "bad", words: `cut off: ${error instanceof Error ? error.message : error}` };
    }
    const took = since();
    running = null;
    send.textContent = "Send";
    if (said) kept.messages.push({ role: "assistant", content: said });
    if (id) keep(id, { ...sent, answered: said });
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
    for (const tab of tabs) {
      const chosen = tab.textContent === kept.snippet;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) code.setAttribute("aria-labelledby", tab.id);
    }
    code.textContent = SNIPPETS[kept.snippet](ask);
  }

  /** @param {number} index */
  function pick(index) {
    kept.snippet = tabs[index].textContent ?? "";
    snippets();
    tabs[index].focus();
  }

  /** The arrow keys go from tab to tab, around the end. @param {KeyboardEvent} event */
  function turn(event) {
    const at = tabs.findIndex((tab) => tab.textContent === kept.snippet);
    const wanted = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    pick((wanted + tabs.length) % tabs.length);
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
