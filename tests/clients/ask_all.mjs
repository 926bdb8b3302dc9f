// Reads `[{"reader": "chat hook", "url": "http://…/api/chat", "question": "hi"}, …]`; writes the answers as JSON.

import { readFileSync } from "node:fs";

// fetch-event-source was written for browsers: this much of one it needs.
globalThis.window ??= globalThis;
globalThis.document ??= { addEventListener() {}, removeEventListener() {} };

const { askAll } = await import("./readers.mjs");
process.stdout.write(JSON.stringify(await askAll(JSON.parse(readFileSync(0, "utf-8")))));
