import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["build", "dist", "**/gen", "node_modules"] },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/explicit-module-boundary-types": "off",
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
      // A type and the functions that make its values have one name.
      "@typescript-eslint/no-redeclare": "off",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
    },
  },
  { files: ["**/*.js"], extends: [tseslint.configs.disableTypeChecked] },
  {
    files: ["test/**"],
    rules: {
      // Nodes of later versions send values that this one does not know.
      "@typescript-eslint/no-unsafe-enum-assignment": "off",
      // `test` of node:test returns a promise that its runner waits for.
      "@typescript-eslint/no-floating-promises": [
        "error",
        { allowForKnownSafeCalls: [{ from: "package", name: ["test", "describe", "it"], package: "node:test" }] },
      ],
    },
  },
);
