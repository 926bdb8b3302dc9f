// @ts-check
/** The page: which view is shown, whether the proxy is there, and the key where one is needed. */

import { counted, h, labelled, put } from "./dom.js";
import { explainView } from "./explain.js";
import { nowView } from "./now.js";
import { requestsView } from "./requests.js";
import { store } from "./store.js";
import { tryView } from "./try.js";
import { usageView } from "./usage.js";

/** Each view writes into the main part, and returns what ends it. @type {Record<string, (main: HTMLElement, id: string) => () => void>} */
const VIEWS = { try: tryView, requests: requestsView, now: nowView, usage: usageView, explain: explainView };

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const pulse = /** @type {HTMLElement} */ (document.getElementById("pulse"));
const heard = /** @type {HTMLElement} */ (document.getElementById("heard"));
const alert = /** @type {HTMLElement} */ (document.getElementById("alert"));
let leave = () => {};
let shown = "";
let warned = "";

function route() {
  const [, wanted = "", id = ""] = location.hash.split("/");
  const name = Object.hasOwn(VIEWS, wanted) ? wanted : "try";
  leave();
  leave = VIEWS[name](main, decoded(id));
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("data-view") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · chat-proxy`;
  if (shown) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  shown = name;
  warn();
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a link that was cut
  }
}

function beat() {
  const { state, status } = store;
  pulse.className = `pulse ${state === "live" ? "live" : state === "connecting" ? "" : "lost"}`;
  const generation = status ? ` · generation ${status.config.generation}` : "";
  const words = { connecting: "connecting", live: `${counted(store.active, "active stream")}${generation}`, lost: "the proxy does not answer", key: "asks for a key", refused: "this key is not enough" };
  if (pulse.textContent !== words[state]) pulse.textContent = words[state];
  const aloud = state === "live" ? "connected" : words[state]; // counts change too often to be read out
  if (heard.textContent !== aloud) heard.textContent = aloud;
}

function warn() {
  const { state, status, words } = store;
  if (state === "key" || state === "refused") return document.getElementById("key") ? undefined : askForKey(words);
  const rejected = status?.config.rejected;
  const there = shown === "now"; // that view shows all of it, and this only says so
  const mark = rejected ? `${there} ${rejected.join("\n")}` : "";
  if (mark === warned && !document.getElementById("key")) return; // the focus may be on its link
  warned = mark;
  put(alert, rejected && h("p", { class: there ? "hidden" : "fault" }, h("b", {}, `${status.config.file} has ${counted(rejected.length, "error")}. `), "The config before it goes on serving. ", !there && h("a", { href: "#/now" }, "See where.")));
}

/** @param {string} words */
function askForKey(words) {
  const field = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
  const form = h(
    "form",
    {
      class: "card flow",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        store.useKey(field.value.trim());
        route();
      },
    },
    h("p", {}, h("b", {}, sessionStorage.getItem("key") ? words : "This proxy asks for a key."), " The data of this page needs a key without limits to routes or models. It is kept in this tab only."),
    h("div", { class: "row" }, labelled("Key", field), h("button", {}, "Use it")),
  );
  put(alert, form);
}

/** @type {HTMLElement} */ (document.querySelector(".skip")).addEventListener("click", (event) => {
  event.preventDefault(); // what follows # is the view
  main.focus();
});
addEventListener("hashchange", route);
for (const name of ["state", "now", "status"]) store.addEventListener(name, beat);
for (const name of ["state", "status"]) store.addEventListener(name, warn);
route();
void store.follow();
