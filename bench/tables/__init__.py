"""The tables of bench/README.md, one module each; every `run(args)` prints one."""
