"""The program that the conformance runner drives."""
