/** Reads the answers of chat-proxy's `POST /chat`. No dependency; runs in browsers and in Node 20 and newer. */

export interface Message {
  role: string;
  /** Text, or parts as OpenAI's chat messages have them. */
  content: unknown;
}

/** A piece of an answer: text, or a notice of a setting that did not reach the model. */
export type Part = { type: "text"; text: string } | { type: "notice"; message: string; code?: string; param?: string };

export type Dialect = "json" | "sse" | "both" | "text";

export interface ChatOptions {
  messages: readonly Message[];
  /** Left out: the proxy's route decides. */
  model?: string | undefined;
  /** Stops the answer, here and at the model. */
  signal?: AbortSignal | undefined;
  headers?: Record<string, string> | undefined;
  /** More fields of the request: `temperature`, `max_tokens`, `user`, … */
  body?: Record<string, unknown> | undefined;
  /** How the answer is written. Only `json` carries every character as the model wrote it. */
  dialect?: Dialect | undefined;
  /**
   * Go on where a lost connection broke off, if the proxy keeps the answer (`server.resume`); on unless `false`. A text
   * is the address of its `/streams/`, if the page reaches that elsewhere.
   */
  resume?: boolean | string | undefined;
  fetch?: typeof fetch | undefined;
}

type More = { [name in "status" | "retryable" | "retryAfter" | "requestId"]?: ChatError[name] | undefined };

/** Why an answer is not whole, or did not begin. */
export class ChatError extends Error {
  override name = "ChatError";
  /** The proxy's code, such as `upstream_truncated`; `cut` if the connection ended early, `unreachable` if there was none. */
  code: string;
  /** The HTTP status, if the answer did not begin. */
  status: number | undefined;
  /** Whether the same request may work if it is sent again. */
  retryable: boolean;
  /** Seconds to wait before that, if the proxy says so. */
  retryAfter: number | undefined;
  /** Names the request in the proxy's log. */
  requestId: string | undefined;

  constructor(message: string, code: string, more: ErrorOptions & More = {}) {
    super(message, more);
    this.code = code;
    this.status = more.status;
    this.retryable = more.retryable ?? false;
    this.retryAfter = more.retryAfter;
    this.requestId = more.requestId;
  }
}

const TRIES = 6; // with the waits between them about 13 seconds

/**
 * Asks, and yields the answer's parts as they come. It returns when the answer is whole.
 *
 * Throws `ChatError` for every other end, and the signal's reason when the caller stops it. Leaving the loop early
 * stops the answer too.
 */
export async function* streamChat(url: string | URL, options: ChatOptions): AsyncGenerator<Part, void, undefined> {
  const { messages, model, signal = null, headers, body, dialect = "json", resume = true, fetch: ask = fetch } = options;
  let requestId: string | undefined;
  const failed = (code: string, message: string, cause?: unknown) => {
    signal?.throwIfAborted();
    return new ChatError(message, code, { cause, retryable: true, requestId });
  };
  let response = await ask(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Chat-Dialect": dialect, ...headers },
    body: JSON.stringify({ ...body, model, messages }),
    signal,
  }).catch((cause) => {
    throw failed("unreachable", "The chat server cannot be reached.", cause);
  });
  requestId = response.headers.get("X-Request-Id") ?? undefined;
  if (!response.ok || !response.body) throw await refusal(response, requestId);

  const spoken = (response.headers.get("X-Chat-Dialect") as Dialect | null) ?? dialect; // the address may name one
  const id = response.headers.get("X-Stream-Id");
  let kept = resume && id ? new URL((resume === true ? "/streams/" : resume) + id, response.url) : undefined;
  let frames = 0; // that came; comments are none
  let lost = 0; // connections in a row that brought nothing
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  try {
    for (;;) {
      reader = response.body!.getReader();
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      let rest = "";
      let why: unknown;
      for (;;) {
        const { value, done } = await reader.read().catch((cause) => ({ value: void (why = cause), done: true as const }));
        if (done) break;
        const from = rest.length - 1; // what was read before holds no frame's end
        rest += decoder.decode(value, { stream: true });
        let begin = 0;
        for (let end; (end = rest.indexOf("\n\n", Math.max(begin, from))) >= 0; begin = end + 2) {
          const frame = rest.slice(begin, end);
          if (!frame.startsWith(": ")) frames++;
          lost = 0;
          const part = read(frame, spoken, requestId);
          if (part === DONE || part instanceof ChatError) kept = undefined;
          if (part === DONE) return;
          if (part instanceof ChatError) throw part;
          if (part) yield part;
        }
        rest = rest.slice(begin);
      }
      const cut = failed("cut", "The connection ended before the answer was whole.", why);
      for (let again: Response | undefined; ; ) {
        if (!kept || lost++ === TRIES) throw cut;
        await new Promise((over) => setTimeout(over, 100 * 2 ** lost));
        kept.search = `after=${frames - 1}`;
        again = await ask(kept, { headers: headers ?? {}, signal }).catch(() => undefined);
        signal?.throwIfAborted();
        response = again ?? response;
        if (again?.ok) break;
        if (again && again.status < 500) throw cut; // it is not kept any more
      }
    }
  } finally {
    reader?.cancel().catch(() => {}); // closes the connection of an answer that is left early
    if (kept) ask(kept, { method: "DELETE", headers: headers ?? {} }).catch(() => {}); // to leave is not to stop
  }
}

/** The chat hook's own signature: the answer's tokens, from `/api/chat`. Unlike the hook, it throws when one broke off. */
export async function* fetchChatStream(
  messages: readonly Message[],
  url: string | URL = "/api/chat",
  signal?: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  for await (const part of streamChat(url, { messages, signal })) if (part.type === "text") yield part.text;
}

const DONE = Symbol();

/** What a frame says; nothing for one of another kind. */
function read(frame: string, dialect: Dialect, requestId?: string): Part | ChatError | typeof DONE | undefined {
  // Bare text keeps its line ends, but for those that would end the frame: they are CR LF.
  if (dialect === "text" && frame.startsWith("data:")) return text(frame.slice(5).replaceAll("\r\n", "\n"));
  let event = "";
  const lines: string[] = [];
  for (const line of frame.split("\n")) {
    const [, field, value = ""] = /^(event|data): ?(.*)/s.exec(line) ?? [];
    if (field === "data") lines.push(value);
    else if (field) event = value;
  }
  if (!lines.length) return;
  const data = lines.join("\n");
  const json = dialect === "json" ? parsed(data) : {};
  switch (event) {
    case "":
      return text(dialect === "json" ? (json.token ?? frame.slice(5)) : data); // a server without dialects has bare text
    case "done":
      return DONE;
    case "error":
      return toError(json.error ?? { message: data }, { requestId });
    case "notice":
      return { type: "notice", message: data, ...json.notice };
  }
}

const text = (text: string): Part => ({ type: "text", text });

/** The error of an answer that did not begin. */
async function refusal(response: Response, requestId?: string): Promise<ChatError> {
  const body = await response.text().catch(() => "");
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  const { status } = response;
  const { error } = parsed(body);
  const said = typeof error === "string" ? { message: error } : error; // other servers write it so
  const message = `The chat server answered with status ${status}.`;
  const retryable = status === 429 || (status > 501 && status < 505);
  return toError({ message, code: "refused", retryable, ...said }, { status, retryAfter, requestId });
}

function toError(error: { message: string; code?: string; retryable?: boolean }, more: More): ChatError {
  return new ChatError(error.message, error.code ?? "failed", { ...more, retryable: error.retryable });
}

function parsed(body: string): any {
  try {
    return JSON.parse(body) ?? {};
  } catch {
    return {};
  }
}
