"""Blocks of README.md and docs/results.md, one module a subject: a function takes the blocks of one study's file and
returns Markdown, a table, how to read it, what was found. ``results_blocks`` lists them."""
