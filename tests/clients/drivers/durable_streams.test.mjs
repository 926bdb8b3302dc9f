// The conformance suite of the Durable Streams protocol, against the server that the test names.

import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.STREAMS });
