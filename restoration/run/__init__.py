"""From a command line to one resolved config: keys, overrides, hardware, checkpoints."""
