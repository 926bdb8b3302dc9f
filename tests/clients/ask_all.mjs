// node ask_all.mjs '{"reader": "founding hook", "url": "http://…/api/chat"}', with questions as a JSON list on standard input

import { readFileSync } from "node:fs";

// fetch-event-source was written for browsers: this much of one it needs.
globalThis.window ??= globalThis;
globalThis.document ??= { addEventListener() {}, removeEventListener() {} };

const { askAll } = await import("./readers.mjs");
const questions = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(await askAll({ ...JSON.parse(process.argv[2]), questions })));
