// One call of the official OpenAI SDK: node openai_call.mjs '{"client": {…}, "request": {…}, "how": "stream"}'
// Prints what the program that uses the SDK gets, as JSON.

import OpenAI from "openai";

const { client: options, request, how } = JSON.parse(process.argv[2]);
const client = new OpenAI(options);
const outcome = { chunks: [], whole: null, models: [], error: null };

const calls = {
  async stream() {
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      outcome.chunks.push(chunk);
    }
  },
  async whole() {
    outcome.whole = await client.chat.completions.create(request);
  },
  async helper() {
    outcome.whole = await client.chat.completions.stream(request).finalChatCompletion();
  },
  async models() {
    for await (const model of client.models.list()) outcome.models.push(model.id);
  },
  async leave() {
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      if (chunk.choices[0].delta.content) break;
    }
    console.log("left");
    for await (const _ of process.stdin); // stay, so that it is the SDK that closes the connection
  },
};

try {
  await calls[how]();
} catch (error) {
  const { status, code, message } = error;
  outcome.error = {
    name: error.constructor.name,
    status: status ?? null,
    code: code ?? null,
    message,
    retry_after: error.headers?.get?.("retry-after") ?? null,
  };
}
if (how !== "leave") process.stdout.write(JSON.stringify(outcome));
