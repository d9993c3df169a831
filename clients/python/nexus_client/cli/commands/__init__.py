"""The commands, a module each; `registry` lists them."""
