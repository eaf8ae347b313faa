// The renewal of a living session, as long as it is in use.

import { call } from "./call.js";
import { moment } from "./clock.js";
import { SeshatError } from "./errors.js";
import type { LivingSession } from "./session.js";
import { longer, now, sleep } from "./time.js";

/** Renews a session until it is lost. */
export async function renew(session: LivingSession): Promise<void> {
  const { lease, nodes } = session;
  const { backoff } = nodes.settings;
  let pause = backoff.min;
  for (;;) {
    await lease.due();
    if (lease.isLost !== undefined) {
      return;
    }
    try {
      await keepAlive(session);
      pause = backoff.min;
    } catch (error) {
      if (error instanceof SeshatError && error.isSessionExpired) {
        lease.lose("ended");
        return;
      }
      await sleep(nodes.jittered(pause), lease.signal).catch(() => undefined);
      pause = longer(backoff, pause);
    }
  }
}

async function keepAlive({ lease, nodes, inSession }: LivingSession): Promise<void> {
  const { clientId } = inSession.numbers;
  const limits = { timeout: Math.max(0, lease.end - now()), signal: lease.signal };
  const sent = await nodes.run(limits, (scope) =>
    call({ ...scope, cluster: inSession.cluster }, "numbered", async (node) => {
      const begun = moment(nodes.settings.clock);
      await node.kv.keepAlive({ clientId, ...node.named }, node.limited());
      return begun;
    }),
  );
  lease.renew(sent);
}
