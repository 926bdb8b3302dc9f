// @ts-check
/** How each contract is asked, and how its answer is read: what a frontend of that contract would do. */

/** @typedef {{role: string, content: string}} Message */
/** @typedef {import("./sse.js").Frame} Frame */
/** @typedef {{text?: string, error?: string, done?: boolean}} Piece */
/**
 * @typedef {{path: string, body: (messages: Message[], model: string) => Record<string, any>, read: (frame: Frame) => Piece,
 *   hasEnd?: boolean}} Contract
 * `hasEnd`: the contract has a frame that ends an answer, so that an answer without it was cut
 */

/** @param {string} model */
const named = (model) => (model ? { model } : {});

/** @param {(value: any) => Piece} read @returns {(frame: Frame) => Piece} */
const inJSON = (read) => (frame) => {
  if (!frame.data || frame.data === "[DONE]") return frame.data ? { done: true } : {};
  try {
    return read(JSON.parse(frame.data)) ?? {};
  } catch {
    return {};
  }
};

let number = 0;
/** @param {Message[]} messages */
const parts = (messages) => messages.map(({ role, content }, index) => ({ id: `m${index}`, role, parts: [{ type: "text", text: content }] }));

/** @type {Record<string, Contract>} */
export const CONTRACTS = {
  chat: {
    path: "chat",
    hasEnd: true,
    body: (messages, model) => ({ messages, ...named(model) }),
    // As the hook reads that this contract was made for: what follows `data:` in a frame that is trimmed. An empty line,
    // which would end the frame, has a CR in it.
    read: ({ name, data, raw }) => (name === "" ? { text: raw.trim().slice("data:".length).replaceAll("\r", "") } : name === "done" ? { done: true } : name === "error" ? { error: data } : {}),
  },
  openai: {
    path: "v1/chat/completions",
    hasEnd: true,
    body: (messages, model) => ({ ...named(model), messages, stream: true }),
    read: inJSON(({ choices, error }) => (error ? { error: error.message } : { text: choices?.[0]?.delta?.content ?? "" })),
  },
  completions: {
    path: "v1/completions",
    hasEnd: true,
    body: (messages, model) => ({ ...named(model), prompt: messages.at(-1)?.content ?? "", stream: true }),
    read: inJSON(({ choices, error }) => (error ? { error: error.message } : { text: choices?.[0]?.text ?? "" })),
  },
  responses: {
    path: "v1/responses",
    hasEnd: true,
    body: (messages, model) => ({ ...named(model), input: messages, stream: true }),
    read: inJSON((event) => {
      if (event.type === "response.output_text.delta") return { text: event.delta };
      if (event.type === "error") return { error: event.message };
      if (event.type === "response.failed") return { error: event.response?.error?.message ?? "it failed" };
      return { done: event.type === "response.completed" || event.type === "response.incomplete" };
    }),
  },
  anthropic: {
    path: "v1/messages",
    hasEnd: true,
    body: (messages, model) => ({ ...named(model), max_tokens: 1024, messages, stream: true }),
    read: inJSON((event) => {
      if (event.type === "content_block_delta") return { text: event.delta?.text ?? "" };
      if (event.type === "error") return { error: event.error?.message };
      return { done: event.type === "message_stop" };
    }),
  },
  ollama: {
    path: "ollama/api/chat",
    hasEnd: true,
    body: (messages, model) => ({ ...named(model), messages }),
    read: inJSON((line) => (line.error ? { error: line.error } : { text: line.message?.content ?? "", done: line.done === true })),
  },
  "ai-sdk": {
    path: "ai-sdk/chat",
    hasEnd: true,
    body: (messages, model) => ({ id: `chat-${++number}`, trigger: "submit-message", messages: parts(messages), ...named(model) }),
    read: inJSON((event) => {
      if (event.type === "text-delta") return { text: event.delta };
      if (event.type === "error") return { error: event.errorText };
      return { done: event.type === "finish" };
    }),
  },
  "ai-text": {
    path: "ai-text",
    body: (messages, model) => ({ id: `chat-${++number}`, messages: parts(messages), ...named(model) }),
    read: ({ data }) => ({ text: data }),
  },
  "ag-ui": {
    path: "agui",
    hasEnd: true,
    body: (messages) => ({
      threadId: "page",
      runId: `run-${++number}`,
      messages: messages.map((message, index) => ({ id: `m${index}`, ...message })),
      tools: [],
      context: [],
      state: {},
      forwardedProps: {},
    }),
    read: inJSON((event) => {
      if (event.type === "TEXT_MESSAGE_CONTENT") return { text: event.delta };
      if (event.type === "RUN_ERROR") return { error: event.message };
      return { done: event.type === "RUN_FINISHED" };
    }),
  },
};

/**
 * A contract that the config declares: its request that says "hi", and the template of its tokens.
 * @param {{path: string, body: any, token: any}} declared
 * @returns {Contract}
 */
export function declaredContract({ path, body, token }) {
  const way = wayTo(token);
  return {
    path: path.replace(/^\//, ""),
    body: (messages, model) => ({ ...saying(body, messages.at(-1)?.content ?? "hi"), ...("model" in Object(body) ? named(model) : {}) }),
    read: (frame) => {
      if (way === null) return { text: frame.data };
      return inJSON((value) => {
        const found = way.reduce((inside, step) => inside?.[step], value);
        return typeof found === "string" ? { text: found } : {};
      })(frame);
    },
  };
}

/** Where in a template the text is; `null`: it is the whole. @param {any} template @returns {string[] | null} */
function wayTo(template) {
  if (typeof template !== "object" || template === null) return null;
  for (const [name, value] of Object.entries(template)) {
    if (value === "$text") return [name];
    const further = typeof value === "object" ? wayTo(value) : null;
    if (further) return [name, ...further];
  }
  return [];
}

/** A body that says something else than "hi". @param {any} body @param {string} text @returns {any} */
function saying(body, text) {
  if (body === "hi") return text;
  if (Array.isArray(body)) return body.map((item) => saying(item, text));
  if (typeof body !== "object" || body === null) return body;
  return Object.fromEntries(Object.entries(body).map(([name, value]) => [name, saying(value, text)]));
}
