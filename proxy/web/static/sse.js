// @ts-check
/** Reads a streamed answer in frames, as they come. */

/** @typedef {{name: string, data: string, raw: string}} Frame */

/**
 * The frames of a body: events, lines of JSON, or pieces of bare text, as its type says.
 * @param {Response} response
 * @returns {AsyncGenerator<Frame[]>} the frames of one read
 */
export async function* frames(response) {
  const type = response.headers.get("content-type") ?? "";
  const separator = type.startsWith("text/event-stream") ? "\n\n" : type.includes("json") ? "\n" : "";
  const decoder = new TextDecoder();
  if (!response.body) return;
  const reader = response.body.getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const pieces = separator ? rest.split(separator) : [rest, ""];
      rest = pieces.pop() ?? "";
      if (done && rest) pieces.push(rest);
      const found = pieces.filter((piece) => piece !== "").map((raw) => (separator === "\n\n" ? event(raw) : { name: "", data: raw, raw }));
      if (found.length) yield found;
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * One event, by the rules of the HTML standard.
 * @param {string} raw
 * @returns {Frame}
 */
function event(raw) {
  let name = "";
  const data = [];
  for (const line of raw.split("\n")) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
  }
  return { name: data.length ? name : ":", data: data.join("\n"), raw };
}
