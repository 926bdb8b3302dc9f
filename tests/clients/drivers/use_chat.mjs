// A page with a chat as its users write them: `useChat`, a form, a Stop button. `ask` uses it by its elements only.

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, TextStreamChatTransport } from "ai";
import { createElement as h } from "react";
import { createRoot } from "react-dom/client";

import { moreOf } from "./ai_transports.mjs";

const kinds = {
  "useChat": (api, body) => new DefaultChatTransport({ api, body }),
  "useChat, text": (api, body) => new TextStreamChatTransport({ api: `${api}?contract=ai-text`, body }),
};

function Part({ type, text, toolCallId, toolName, input }) {
  if (type === "text") return h("span", { className: "text" }, text);
  if (type === "reasoning") return h("em", null, text);
  if (type !== "dynamic-tool" && !type.startsWith("tool-")) return null;
  return h("code", { id: toolCallId, title: toolName ?? type.slice("tool-".length) }, JSON.stringify(input));
}

function Chat({ number, transport }) {
  const { messages, sendMessage, status, error, stop } = useChat({ transport, onFinish });
  function onFinish({ finishReason, message }) {
    document.body.dataset.finish = finishReason ?? "";
    document.body.dataset.usage = JSON.stringify(message.metadata?.usage ?? null);
  }
  function send(submit) {
    submit.preventDefault();
    const { question, picture } = submit.target.elements;
    const files = picture.value ? [{ type: "file", mediaType: "image/png", url: picture.value }] : undefined;
    sendMessage({ text: question.value, files });
  }
  return h(
    "form",
    { id: `chat-${number}`, onSubmit: send },
    messages
      .filter(({ role }) => role === "assistant")
      .map(({ id, parts }) => h("p", { key: id }, parts.map((part, at) => h(Part, { key: at, ...part })))),
    h("textarea", { name: "question" }),
    h("input", { name: "picture", type: "hidden" }),
    h("button", { id: "send" }, "Send"),
    h("button", { id: "stop", type: "button", onClick: stop }, "Stop"),
    h("output", { id: "status" }, status),
    h("strong", null, error?.message),
  );
}

const root = createRoot(document.getElementById("root"));
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const texts = (selector) => all(selector).map(({ textContent }) => textContent).join("");

async function until(true_) {
  while (!true_()) await new Promise((resolve) => setTimeout(resolve, 5));
}

let chats = 0;
/** Begin a chat, ask the question, and tell what can be read on the page in the end. */
window.ask = async (asked) => {
  const { client, url, question, image, leave } = asked;
  delete document.body.dataset.finish;
  const number = ++chats;
  root.render(h(Chat, { key: number, number, transport: kinds[client](`${url}/api/chat`, moreOf(asked)) }));
  await until(() => one(`#chat-${number}`));
  one("textarea").value = question;
  one("input").value = image ? `data:image/png;base64,${image}` : "";
  one("#send").click();
  await until(() => "finish" in document.body.dataset || leave && texts(".text"));
  if (leave) one("#stop").click();
  await until(() => "finish" in document.body.dataset && /ready|error/.test(texts("#status")));
  const usage = JSON.parse(document.body.dataset.usage);
  return {
    text: texts(".text"),
    reasoning: texts("em"),
    tools: all("code").map(({ id, title, textContent }) => ({ id, name: title, arguments: textContent })),
    finish: document.body.dataset.finish || null,
    usage: usage && { input: usage.inputTokens, output: usage.outputTokens },
    error: texts("#status") === "error" ? { name: "status error", message: texts("strong") } : null,
  };
};
document.title = "ready";
