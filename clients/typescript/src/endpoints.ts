// The addresses of nodes.

import { invalid } from "./errors.js";

/** The address in `text`, `host:port` with or without the prefix `http://`, as `host:port`; absent: it is none. */
export function checked(text: string): string | undefined {
  const address = text
    .trim()
    .replace(/^http:\/\//, "")
    .replace(/\/$/, "");
  const parts = /^(?:\[[0-9a-fA-F:.]+\]|[^\s:/@?#[\]]+):(\d{1,5})$/.exec(address);
  const isUrl = parts !== null && URL.canParse(`http://${address}`);
  return isUrl && Number(parts[1]) >= 1 ? address : undefined;
}

/**
 * The endpoints of a list, in which each may be a list with commas. Empty parts are ignored.
 *
 * @throws SeshatError of kind `invalid`.
 */
export function endpoints(list: string | readonly string[]): string[] {
  const texts = typeof list === "string" ? [list] : list;
  const parts = texts.flatMap((text) => text.split(",")).filter((part) => part.trim() !== "");
  if (parts.length === 0) {
    throw invalid("a client needs at least one endpoint");
  }
  const addresses = parts.map((part) => {
    const address = checked(part);
    if (address === undefined) {
      throw invalid(`${JSON.stringify(part)} is not of the form host:port, e.g. 127.0.0.1:6379`);
    }
    return address;
  });
  return [...new Set(addresses)];
}
