// The transports of the AI SDK, under `useChat` and without it: what they make of a stream of UI messages.

import { DefaultChatTransport, readUIMessageStream, TextStreamChatTransport } from "ai";

const through = (Transport, query) =>
  async function (ask, seen) {
    const controller = new AbortController();
    const transport = new Transport({ api: `${ask.url}/api/chat${query}`, body: moreOf(ask) });
    const parts = [{ type: "text", text: ask.question }];
    if (ask.image) parts.push({ type: "file", mediaType: "image/png", url: `data:image/png;base64,${ask.image}` });
    const messages = [{ id: "1", role: "user", parts }];
    const abortSignal = controller.signal;
    const sent = { chatId: "chat", trigger: "submit-message", messageId: undefined, messages, abortSignal };
    const [chunks, stream] = (await transport.sendMessages(sent)).tee();
    try {
      await Promise.all([takeChunks(seen, chunks), takeMessages(seen, stream)]);
    } finally {
      controller.abort();
    }
  };

/** What the proxy reads beside what the transport sends by itself. */
export function moreOf({ model, tools }) {
  const called = tools?.map((tool) => ({ type: "function", function: tool }));
  return { model, tools: called, stream_options: { include_usage: true } };
}

async function takeChunks(seen, chunks) {
  for await (const chunk of chunks) {
    if (chunk.type === "finish") seen.finish = chunk.finishReason;
    if (chunk.type === "error") seen.error = { name: "error chunk", status: null, message: chunk.errorText };
    const usage = chunk.messageMetadata?.usage;
    if (usage) seen.used(usage.inputTokens, usage.outputTokens);
  }
}

async function takeMessages(seen, stream) {
  for await (const { parts } of readUIMessageStream({ stream, onError() {} })) {
    const all = (type) => parts.filter((part) => part.type === type).map(({ text }) => text).join("");
    const isTool = ({ type }) => type === "dynamic-tool" || type.startsWith("tool-");
    const calls = parts.filter((part) => isTool(part) && part.state !== "input-streaming"); // what an app may run
    seen.tools = calls.map(({ type, toolName, toolCallId, input }) => ({
      id: toolCallId,
      name: toolName ?? type.slice("tool-".length),
      arguments: input,
    }));
    seen.reasoning = all("reasoning");
    const text = all("text");
    if (text !== seen.text) seen.say(text.slice(seen.text.length));
  }
}

async function resume(ask, seen) {
  const transport = new DefaultChatTransport({ api: `${ask.url}/api/chat` });
  seen.finish = (await transport.reconnectToStream({ chatId: "a chat" })) === null ? "nothing to resume" : "a stream";
}

export const clients = {
  "DefaultChatTransport, resuming": resume,
  DefaultChatTransport: through(DefaultChatTransport, ""),
  TextStreamChatTransport: through(TextStreamChatTransport, "?contract=ai-text"),
};
