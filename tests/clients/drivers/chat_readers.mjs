// Readers of `POST /chat`: see readers.mjs.

globalThis.window ??= globalThis; // fetch-event-source was written for browsers: this much of one it needs
globalThis.document ??= { addEventListener() {}, removeEventListener() {} };

const { askAll } = await import("./readers.mjs");

const reader = (name, query = "") =>
  async function ({ url, question, leave }, seen) {
    const [answer] = await askAll([{ reader: name, url: `${url}/api/chat${query}`, question, leave }]);
    seen.text = answer.text;
    seen.finish = answer.done ? "done" : null;
    const kind = answer.thrown ? "thrown" : "error event";
    if (answer.failure) seen.error = { name: kind, status: null, message: answer.failure };
  };

export const clients = {
  "chat hook": reader("chat hook"),
  "eventsource-parser": reader("eventsource-parser"),
  "fetch-event-source": reader("fetch-event-source"),
};
