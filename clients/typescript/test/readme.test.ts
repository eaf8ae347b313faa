// The code of the README, against a real cluster: `SESHAT` is the path of its binary.

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..", "..");
const dir = join(root, "build", "readme");
const seshat = process.env.SESHAT;
const skip = seshat === undefined && "SESHAT is not set: the path of a built seshat";

/** Whether all these ports are free. */
async function areFree(ports: readonly number[]): Promise<boolean> {
  for (const port of ports) {
    const server = createServer();
    const listens = await new Promise<boolean>((resolve) => {
      server.once("error", () => {
        resolve(false);
      });
      server.listen(port, "127.0.0.1", () => {
        resolve(true);
      });
    });
    if (!listens) {
      return false;
    }
    await new Promise((resolve) => server.close(resolve));
  }
  return true;
}

/** The first one of three ports that are free, like the three behind them. */
async function freePorts(): Promise<number> {
  for (;;) {
    const base = 10_000 + Math.floor(Math.random() * 20_000);
    if (await areFree([0, 1, 2, 3, 4, 5].map((offset) => base + offset))) {
      return base;
    }
  }
}

/** Starts a cluster, and waits until it serves. It is the one that this process has started, or none. */
async function start(path: string, base: number): Promise<ChildProcess> {
  const options = ["dev", "--base-port", String(base), "--internal-base-port", String(base + 3)];
  const child = spawn(path, options, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => {
      reject(new Error(`the cluster has ended with ${String(code)}`));
    });
    child.stdout.on("data", (said: Buffer) => {
      if (said.includes("leads")) {
        resolve();
      }
    });
  });
  return child;
}

/** The blocks of TypeScript in the README, and what they print by their comments. */
async function blocks(): Promise<{ code: string; prints: string[] }[]> {
  const readme = await readFile(join(root, "README.md"), "utf8");
  return [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => ({
    code,
    prints: [...code.matchAll(/console\.log\(.*\).*; \/\/ (.*)$/gm)].map(([, printed = ""]) => printed),
  }));
}

let cluster: ChildProcess | undefined;
let base = 0;

before(async () => {
  if (seshat !== undefined) {
    base = await freePorts();
    cluster = await start(seshat, base);
  }
});

after(async () => {
  if (cluster !== undefined) {
    const ended = new Promise((resolve) => cluster?.once("exit", resolve));
    cluster.kill("SIGTERM");
    await ended;
  }
});

test("the code of the README does what it says", { skip }, async () => {
  const all = await blocks();
  assert.ok(all.length >= 6, "the README has code");
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const files = await Promise.all(
    all.map(async ({ code }, index) => {
      const file = join(dir, `block${String(index)}.ts`);
      const here = code.replace(
        /127\.0\.0\.1:63(79|80|81)/g,
        (_, port: string) => `127.0.0.1:${String(base + Number(port) - 79)}`,
      );
      await writeFile(file, here);
      return file;
    }),
  );
  const options = {
    extends: "../../tsconfig.json",
    compilerOptions: { rootDir: ".", outDir: ".", incremental: false },
    include: [],
    files,
  };
  await writeFile(join(dir, "tsconfig.json"), JSON.stringify(options));
  await run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", dir]).catch(
    (error: unknown) => {
      assert.fail((error as { stdout: string }).stdout);
    },
  );
  for (const [index, { prints }] of all.entries()) {
    const { stdout } = await run(process.execPath, [join(dir, `block${String(index)}.js`)], { timeout: 120_000 });
    assert.deepEqual(stdout.trimEnd().split("\n"), prints, `block ${String(index)}`);
  }
});
