// Readers of `POST /chat` as their users write them. Each takes an address and a question and fills in an answer:
// all text that came, whether a `done` event came, and as `failure` the data of an `error` event or the words of an
// exception that was `thrown`. Those that can be stopped are, by the signal, as soon as text came to a question that says `leave`.
// The same file runs in Node and in a browser.

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { createParser } from "eventsource-parser";

import { streamChat } from "./hook.mjs";

const post = (question) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ messages: [{ role: "user", content: question }] }),
});

async function hook(answer, url, question) {
  for await (const token of streamChat([{ role: "user", content: question }], url)) answer.text += token;
}

function taking(answer, asText, stop) {
  return ({ event, data }) => {
    if (event === "done") answer.done = true;
    else if (event === "error") answer.failure = data;
    else if (data) answer.text += asText(data); // fetch-event-source also reports frames without data
    if (answer.text) stop?.abort();
  };
}

const parser = (asText) =>
  async function (answer, url, question, stop) {
    const events = createParser({ onEvent: taking(answer, asText, stop) });
    const { method, headers, body } = post(question);
    const accepting = { ...headers, Accept: "text/event-stream" };
    const response = await fetch(url, { method, headers: accepting, body, signal: stop?.signal });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    const decoder = new TextDecoder();
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      events.feed(decoder.decode(value, { stream: true }));
    }
  };

const eventSource = (asText) =>
  async function (answer, url, question, stop) {
    await fetchEventSource(url, {
      ...post(question),
      fetch: globalThis.fetch,
      openWhenHidden: true,
      signal: stop?.signal,
      onmessage: taking(answer, asText, stop),
      onerror: (error) => {
        answer.asksAgain = true; // it would, every second, were it not for this
        throw error;
      },
    });
  };

const asItIs = (data) => data;
const asJson = (data) => JSON.parse(data).token;

const READERS = {
  "chat hook": hook,
  "eventsource-parser": parser(asItIs),
  "eventsource-parser, JSON": parser(asJson),
  "fetch-event-source": eventSource(asItIs),
  "fetch-event-source, JSON": eventSource(asJson),
};

async function ask({ reader, url, question, leave }) {
  const answer = { text: "", done: false, failure: null, thrown: false, asksAgain: false };
  const stop = leave ? new AbortController() : undefined;
  try {
    await READERS[reader](answer, url, question, stop);
  } catch (error) {
    if (!stop?.signal.aborted) Object.assign(answer, { failure: String(error), thrown: true });
  }
  return answer;
}

/** Ask everything in `asks`, so much at once; return the answers in order. */
export async function askAll(asks, atOnce = 16) {
  const answers = new Array(asks.length);
  let next = 0;
  const worker = async () => {
    for (let at = next++; at < asks.length; at = next++) answers[at] = await ask(asks[at]);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return answers;
}
