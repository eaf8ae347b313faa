// The test program of the conformance runner: see conformance/proto/seshat/conformance/v1/conformance.proto.

import { create } from "@bufbuild/protobuf";
import { sizeDelimitedDecodeStream, sizeDelimitedEncode } from "@bufbuild/protobuf/wire";
import { Actions } from "./actions.js";
import { type Request, RequestSchema, ResponseSchema } from "./gen/seshat/conformance/v1/conformance_pb.js";

const actions = new Actions();
const running = new Set<Promise<void>>();

async function answer(request: Request): Promise<void> {
  const outcome = await actions.carryOut(request);
  process.stdout.write(sizeDelimitedEncode(ResponseSchema, create(ResponseSchema, { id: request.id, outcome })));
}

for await (const request of sizeDelimitedDecodeStream(RequestSchema, process.stdin)) {
  const answered = answer(request).finally(() => running.delete(answered));
  running.add(answered);
}
await actions.close();
process.exit(0);
