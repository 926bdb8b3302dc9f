// Asks real JavaScript clients: see drive.py, whose lines it reads and writes. node drive.mjs openai_sdk.mjs …

import { createInterface } from "node:readline";

class Left extends Error {}

/** What a program saw of an answer. */
class Seen {
  constructor(ask) {
    this.ask = ask;
    this.controller = new AbortController();
    this.text = this.reasoning = "";
    this.tools = [];
    this.finish = this.usage = this.error = null;
  }

  /** Take in a piece of text; throws when this was all the program wanted to hear. */
  say(text) {
    this.text += text ?? "";
    if (this.text && this.ask.leave) throw new Left();
  }

  fail(error) {
    const status = error.status ?? error.status_code ?? error.statusCode ?? null;
    const name = error.constructor.name === "Error" ? error.name : error.constructor.name;
    this.error = { name, status, message: error.message ?? String(error) };
  }

  used(input, output) {
    this.usage = { input: input ?? 0, output: output ?? 0 };
  }
}

const clients = {};
for (const driver of process.argv.slice(2)) Object.assign(clients, (await import(`./${driver}`)).clients);
console.log(JSON.stringify({ ready: Object.keys(clients) }));

process.on("unhandledRejection", (reason) => console.error("unhandled", reason)); // some clients reject in two places

const controllers = {};
createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, give_up, ...ask } = JSON.parse(line);
  if (give_up) return controllers[give_up].abort();
  const seen = new Seen(ask);
  controllers[id] = seen.controller;
  try {
    await clients[ask.client](ask, seen);
  } catch (error) {
    if (!(error instanceof Left) && !seen.controller.signal.aborted) seen.fail(error);
  }
  const { ask: _, controller, ...told } = seen;
  process.stdout.write(`${JSON.stringify({ id, ...told })}\n`);
});
