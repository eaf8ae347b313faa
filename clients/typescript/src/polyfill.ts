// `Symbol.asyncDispose` of `await using`, which the first versions of Node 20 do not have.

const symbols: { asyncDispose?: symbol } = Symbol;
if (symbols.asyncDispose === undefined) {
  Object.defineProperty(Symbol, "asyncDispose", { value: Symbol.for("Symbol.asyncDispose") });
}
