"""A fleet of nodes, its bus and its clients in one process, on a fake clock, with faults by seed.

The nodes are real ones from the realm down to the JSON sessions; the bus is a model of Redis and of the links to it
(`server`, `bus`), the clients a model of what a client library does (`clients`). Whatever a client is sent is held against
what the model of Redis knows to be true (`truth`, `judge`). In some seeds agents and callers work, too (`labour`, `agents`,
`callers`); `duty` judges what becomes of commands and presence.

`python -m tests.simulation --seeds 100000 --from 0` runs any number of seeds, `--seed N` a single one with its story.
"""
