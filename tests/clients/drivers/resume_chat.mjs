// A page with a chat that goes on when the page is loaded again: `useChat({ resume: true })`. It keeps the questions in
// the tab's storage, as others keep them on a server.

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { createElement as h } from "react";
import { createRoot } from "react-dom/client";

const saved = JSON.parse(sessionStorage.getItem("messages") ?? "[]");
const transport = new DefaultChatTransport({ api: location.hash.slice(1) });

function Chat() {
  const { messages, sendMessage, status, error } = useChat({ id: "chat-7", messages: saved, resume: saved.length > 0, transport });
  window.send = (text) => {
    sessionStorage.setItem("messages", JSON.stringify([{ id: "1", role: "user", parts: [{ type: "text", text }] }]));
    sendMessage({ text });
  };
  const text = ({ parts }) => parts.map(({ text = "" }) => text).join("");
  window.told = { status, error: error?.message ?? null, answers: messages.filter(({ role }) => role === "assistant").map(text) };
  return h("output", null, status);
}

createRoot(document.getElementById("root")).render(h(Chat));

/** Wait until the page shows what is looked for. */
window.until = async (shows) => {
  while (!window.told || !shows(window.told)) await new Promise((over) => setTimeout(over, 10));
  return window.told;
};
document.title = "ready";
