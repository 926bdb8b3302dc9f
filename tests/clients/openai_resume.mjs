// OpenAI's SDK for Node goes on with a response: node openai_resume.mjs '{"client": {…}, "id": …, "after": 3}'
// Prints the sequence numbers and the text of each way, as JSON.

import OpenAI from "openai";

const { client: options, id, after } = JSON.parse(process.argv[2]);
const client = new OpenAI(options);
const told = {};

async function take(name, stream) {
  const seen = (told[name] = { numbers: [], text: "" });
  for await (const event of stream) {
    seen.numbers.push(event.sequence_number);
    if (event.type === "response.output_text.delta") seen.text += event.delta;
  }
}

await take("retrieve", await client.responses.retrieve(id, { stream: true, starting_after: after }));
await take("whole", await client.responses.retrieve(id, { stream: true }));
const helper = client.responses.stream({ response_id: id });
await take("helper", helper);
told.final = (await helper.finalResponse()).output_text;
const later = client.responses.stream({ response_id: id, starting_after: after });
await take("helper after", later);
console.log(JSON.stringify(told));
